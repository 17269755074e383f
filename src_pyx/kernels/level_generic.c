/* The baseline every compiler and machine has; 16-byte vectors are SSE2 on x86-64, NEON on AArch64. */
#define LEVEL generic
#define VECTOR_BYTES 16
#if defined(__aarch64__)
#define REGISTERS 32
#else
#define REGISTERS 16
#endif
#include "level.inc.h"
