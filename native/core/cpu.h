// Which kernel variants this machine can run: the CPU's feature bits and what the operating system saves.
#pragma once

namespace sw {

enum Isa { kX86_64, kAvx2, kAvx512, kAvx512Bf16, kIsaCount };

bool cpu_supports(Isa isa);

}  // namespace sw
