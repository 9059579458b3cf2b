#include "num/neon/vec.h"
#include "num/simd/stored.inc"
