#define SW_ISA avx512_bf16
#define SW_TABLE kernels_avx512_bf16
#define SW_NAME "avx512-bf16"
#define SW_LANES 16
#include "unit.inl"
