#include "num/avx512/vec.h"
#include "num/simd/arrays.inc"
