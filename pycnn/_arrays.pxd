"""Inputs as the loops read them."""


cdef object carray(array, int type_num, Py_ssize_t size)
