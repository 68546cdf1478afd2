#define SW_ISA avx2
#define SW_TABLE kernels_avx2
#define SW_NAME "avx2"
#define SW_LANES 8
#include "unit.inl"
