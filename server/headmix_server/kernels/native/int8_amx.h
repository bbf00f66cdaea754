// The sums of int8_tiles.h by AMX, 16 rows and a group at a time, if processor and kernel support it.
#pragma once

#include "amx.h"
#include "int8_tiles.h"

namespace headmix {

#if defined(HEADMIX_AMX_INT8)

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

#endif

}  // namespace headmix
