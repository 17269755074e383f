/* The baseline every compiler and machine has; 16-byte vectors are SSE2 on x86-64, NEON on AArch64. */
#define LEVEL generic
#define VECTOR_BYTES 16
#if defined(__aarch64__)
#define TILE_PIXELS 14
#define PLANES_VECTORS 8
#define DEPTHWISE_PIXELS 7
#else
#define TILE_PIXELS 6
#define PLANES_VECTORS 6
#define DEPTHWISE_PIXELS 4
#endif
#include "level.inc.h"
