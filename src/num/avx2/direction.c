#include "num/avx2/vec.h"
#include "num/simd/direction.inc"
