#include "num/avx2/vec.h"
#include "num/simd/stored.inc"
