#include "num/neon/vec.h"
#include "num/simd/arrays.inc"
