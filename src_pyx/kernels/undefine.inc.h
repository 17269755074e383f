#undef T
#undef SUFFIX
#undef VECTOR
#undef LANES
#undef LOAD
#undef STORE
#undef UNROLL
#undef OPAQUE
