#define SW_ISA x86_64
#define SW_TABLE kernels_x86_64
#define SW_NAME "x86-64"
#define SW_LANES 4
#include "unit.inl"
