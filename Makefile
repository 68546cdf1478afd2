# The native engine: make native -> build/switchyard.node. Needs make and g++ (or clang++ through CXX), nothing else.
# Other programs' node_modules may hold the N-API headers when this package is installed as a dependency: set NODE_API_HEADERS.
BUILD ?= build
NODE_API_HEADERS ?= $(firstword $(wildcard node_modules/node-api-headers/include ../node-api-headers/include))
objects := $(BUILD)/native
addon := $(BUILD)/switchyard.node

CXXFLAGS ?= -O3 -g1
# No reassociation: a result must not depend on how the compiler groups sums.
flags := -std=c++17 -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -fno-threadsafe-statics -ffp-contract=fast -fno-math-errno \
  -fno-trapping-math -Wall -Wextra -Wno-psabi -Wno-missing-field-initializers -isystem $(NODE_API_HEADERS)

sources := $(wildcard native/core/*.cpp native/binding/*.cpp native/kernels/isa_*.cpp)
parts := $(patsubst native/%.cpp,$(objects)/%.o,$(sources))

AVX512 ?= -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma -mf16c -mprefer-vector-width=512
$(objects)/kernels/isa_x86_64.o: isa := -march=x86-64
$(objects)/kernels/isa_avx2.o: isa := -mavx2 -mfma -mf16c
$(objects)/kernels/isa_avx512.o: isa := $(AVX512)
$(objects)/kernels/isa_avx512_bf16.o: isa := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16 -mavx2 -mfma -mf16c -mprefer-vector-width=512

.PHONY: native clean
native: $(addon)

# Unversioned references to libc and libm, resolved against the node process: the binary loads on any glibc and on musl. nodelete: pool threads
# outlive a worker thread's environment.
$(addon): $(parts)
	$(CXX) -shared -nostdlib -Wl,--unresolved-symbols=ignore-all -Wl,-z,nodelete -Wl,-z,now -o $@ $^

$(objects)/%.o: native/%.cpp Makefile
	@mkdir -p $(@D)
	$(CXX) $(flags) $(CXXFLAGS) $(isa) -MMD -MP -c -o $@ $<

clean:
	rm -rf $(objects) $(addon)

-include $(parts:.o=.d)
