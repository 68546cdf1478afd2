# The native engine: make native -> build/switchyard.node. Needs make and g++ (or clang++ through CXX), nothing else.
# Other programs' node_modules may hold the N-API headers when this package is installed as a dependency: set NODE_API_HEADERS.
BUILD ?= build
NODE_API_HEADERS ?= $(firstword $(wildcard node_modules/node-api-headers/include ../node-api-headers/include))
objects := $(BUILD)/native
addon := $(BUILD)/switchyard.node

CXXFLAGS ?= -O3 -g1
# No reassociation: a result must not depend on how the compiler groups sums. With expensive optimizations GCC fuses products and sums with -O1 too, as
# the kernels' own instructions do.
flags := -std=c++17 -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -fno-threadsafe-statics -ffp-contract=fast -fexpensive-optimizations -fno-math-errno \
  -fno-trapping-math -Wall -Wextra -Wno-psabi -Wno-missing-field-initializers -isystem "$(NODE_API_HEADERS)"

sources := $(wildcard native/core/*.cpp native/binding/*.cpp native/kernels/isa_*.cpp)
parts := $(patsubst native/%.cpp,$(objects)/%.o,$(sources))

avx2 := -mavx2 -mfma -mf16c
avx512 := $(avx2) -mavx512f -mavx512bw -mavx512vl -mavx512dq -mprefer-vector-width=512
# Every CPU with the bfloat16 instructions has those for int8 products.
bf16 := $(avx512) -mavx512vnni -mavx512bf16
# make native EMULATE=1 BUILD=build/emulated: the AVX-512 variants, 16 lanes wide, in AVX2 instructions, to test them on a machine without AVX-512.
ifdef EMULATE
flags += -DSWITCHYARD_EMULATE_AVX512
avx512 := $(avx2)
bf16 := $(avx2)
endif
# SANITIZE=1: address and undefined-behaviour sanitizers. An addon with them needs a node that loads their libraries first.
ifdef SANITIZE
flags += -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
endif
$(objects)/kernels/isa_x86_64.o: isa := -march=x86-64
$(objects)/kernels/isa_avx2.o: isa := $(avx2)
$(objects)/kernels/isa_avx512.o: isa := $(avx512)
$(objects)/kernels/isa_avx512_bf16.o: isa := $(bf16)

# What make fuzz compiles of the kernels, for which instruction sets.
ISAS ?= x86_64 avx2 avx512 avx512_bf16
fuzzed := $(ISAS:%=$(objects)/fuzz/kernels_%.o)
$(objects)/fuzz/kernels_x86_64.o: isa := -march=x86-64 -DSW_LANES=4
$(objects)/fuzz/kernels_avx2.o: isa := $(avx2) -DSW_LANES=8
$(objects)/fuzz/kernels_avx512.o: isa := $(avx512) -DSW_LANES=16
$(objects)/fuzz/kernels_avx512_bf16.o: isa := $(bf16) -DSW_LANES=16
fuzz_parts := $(patsubst native/%.cpp,$(objects)/%.o,$(wildcard native/core/*.cpp) $(filter-out native/fuzz/kernels.cpp,$(wildcard native/fuzz/*.cpp))) $(fuzzed)

.PHONY: native fuzz clean
native: $(addon)

# build/fuzz/fuzz: hostile bytes for the native code that works on those of files (native/fuzz), with both sanitizers.
fuzz:
	$(MAKE) build/fuzz/fuzz BUILD=build/fuzz SANITIZE=1 CXXFLAGS="$(if $(filter file,$(origin CXXFLAGS)),-O1 -g1,$(CXXFLAGS))"
$(BUILD)/fuzz: $(fuzz_parts)
	$(CXX) $(flags) -o $@ $^ -lpthread
$(fuzzed): $(objects)/fuzz/kernels_%.o: native/fuzz/kernels.cpp Makefile
	@mkdir -p $(@D)
	$(CXX) $(flags) $(CXXFLAGS) $(isa) -DSW_ISA=$* -MMD -MP -c -o $@ $<

# Unversioned references to libc and libm, resolved against the node process: the binary loads on any glibc and on musl. nodelete: pool threads
# outlive a worker thread's environment.
$(addon): $(parts)
	$(CXX) -shared -nostdlib -Wl,--unresolved-symbols=ignore-all -Wl,-z,nodelete -Wl,-z,now -o $@ $^

$(objects)/%.o: native/%.cpp Makefile
	@mkdir -p $(@D)
	$(CXX) $(flags) $(CXXFLAGS) $(isa) -MMD -MP -c -o $@ $<

clean:
	rm -rf $(objects) $(addon)

-include $(parts:.o=.d) $(fuzz_parts:.o=.d)
