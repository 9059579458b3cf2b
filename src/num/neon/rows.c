#include "num/neon/vec.h"
#include "num/simd/rows.inc"
