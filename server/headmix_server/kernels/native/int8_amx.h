// The sums of int8_tiles.h by AMX, 16 rows and a group at a time, if processor and kernel support it.
#pragma once

#include "int8_tiles.h"

#if defined(__AMX_INT8__) && defined(__linux__)
#define HEADMIX_AMX
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace headmix {

constexpr int64_t AMX_ROWS = 16;

#if defined(HEADMIX_AMX)

// Request the tile registers from the kernel, once; a process gets them only on request.
inline bool amx_is_granted() {
  constexpr int REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
  static const bool granted = syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
  return granted;
}

// This thread's tiles during its lifetime: all of 16 rows of 64 bytes.
class AmxTiles {
 public:
  AmxTiles() {
    alignas(64) Config config = {};
    config.palette = 1;
    for (int tile = 0; tile < 8; ++tile) config.row_bytes[tile] = 64, config.rows[tile] = 16;
    _tile_loadconfig(&config);
  }
  ~AmxTiles() { _tile_release(); }
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;

 private:
  struct Config {
    uint8_t palette, start_row, unused[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  };
};

// sums [2][16][GROUP] of 16 rows of codes with two groups; codes are [16][depth].
inline void sum_16_rows(const uint8_t* codes, int64_t depth, const uint8_t* groups, Sums* sums) {
  const uint8_t* second = groups + group_bytes(depth);
  _tile_zero(0);
  _tile_zero(1);
  for (int64_t i = 0; i < depth; i += DEPTH) {
    _tile_loadd(4, codes + i, depth);
    _tile_loadd(6, groups + i * GROUP, 64);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(7, second + i * GROUP, 64);
    _tile_dpbusd(1, 4, 7);
  }
  _tile_stored(0, sums, 64);
  _tile_stored(1, sums + 16, 64);
}

// sums [4][16][GROUP] of 32 rows of codes with two groups: the first 16 rows with both groups, then the others.
inline void sum_32_rows(const uint8_t* codes, int64_t depth, const uint8_t* groups, Sums* sums) {
  const uint8_t *second = groups + group_bytes(depth), *others = codes + 16 * depth;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t i = 0; i < depth; i += DEPTH) {
    _tile_loadd(4, codes + i, depth);
    _tile_loadd(5, others + i, depth);
    _tile_loadd(6, groups + i * GROUP, 64);
    _tile_loadd(7, second + i * GROUP, 64);
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
  }
  _tile_stored(0, sums, 64);
  _tile_stored(1, sums + 16, 64);
  _tile_stored(2, sums + 32, 64);
  _tile_stored(3, sums + 48, 64);
}

#else

inline bool amx_is_granted() { return false; }

#endif

}  // namespace headmix
