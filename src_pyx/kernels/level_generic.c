/* The baseline every compiler and machine has; 16-byte vectors are SSE2 on x86-64, NEON on AArch64. */
#define LEVEL generic
#if !defined(VECTOR_BYTES)      /* a test gives another level's, REGISTERS and X86_VECTORS 0 */
#define VECTOR_BYTES 16
#if defined(__aarch64__)
#define REGISTERS 32
#else
#define REGISTERS 16
#endif
#endif
#include "level.inc.h"
