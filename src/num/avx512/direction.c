#include "num/avx512/vec.h"
#include "num/simd/direction.inc"
