// AMX's tile registers: permission to use them, and a thread's configuration of them.
#pragma once

#include <cstdint>

#if defined(__x86_64__) && __has_include(<amxbf16intrin.h>)
#define HEADMIX_AMX_TILES
#if defined(__AMX_INT8__)
#define HEADMIX_AMX_INT8
#endif
#include <immintrin.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace headmix {

constexpr int64_t AMX_ROWS = 16;

// Request the tile registers from the kernel, once; a process gets them only on request.
inline bool amx_is_granted() {
#if defined(HEADMIX_AMX_TILES) && defined(__linux__)
  constexpr long REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool granted = syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
  return granted;
#else
  return false;
#endif
}

#if defined(HEADMIX_AMX_TILES)

// This thread's tiles during its lifetime: six of `rows` rows of 64 bytes for sums and inputs, two of 16 for weights.
class AmxTiles {
 public:
  __attribute__((target("amx-tile"))) explicit AmxTiles(int64_t rows = AMX_ROWS) {
    struct alignas(64) {
      uint8_t palette = 1, start = 0, unused[14] = {};
      uint16_t bytes[16] = {};
      uint8_t rows[16] = {};
    } shape;
    for (int tile = 0; tile < 8; ++tile) {
      shape.bytes[tile] = 64;
      shape.rows[tile] = static_cast<uint8_t>(tile < 6 ? rows : AMX_ROWS);
    }
    __asm__ volatile("" ::"r"(&shape) : "memory");  // the compiler assumes that the next line reads only 8 bytes
    _tile_loadconfig(&shape);
  }
  __attribute__((target("amx-tile"))) ~AmxTiles() { _tile_release(); }
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;
};

#endif

}  // namespace headmix
