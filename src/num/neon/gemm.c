#include "num/neon/vec.h"
#include "num/simd/gemm.inc"
