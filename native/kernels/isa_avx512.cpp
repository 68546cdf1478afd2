#define SW_ISA avx512
#define SW_TABLE kernels_avx512
#define SW_NAME "avx512"
#define SW_LANES 16
#include "unit.inl"
