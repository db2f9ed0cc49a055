// bpf(2) as far as a socket filter needs it: maps, programs of raw instructions, attaching, a trial run.
//
// Every function returns a file descriptor (or 0) or a negative errno; none keeps state. The descriptors belong to the
// caller; a socket keeps the program that is attached to it, and a program its maps, beyond the closing of theirs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace berth {

// `type` and `flags` as in linux/bpf.h.
int CreateMap(uint32_t type, uint32_t key_bytes, uint32_t value_bytes, uint32_t entries, uint32_t flags);
int UpdateMap(int map, const void* key, const void* value);
int DeleteFromMap(int map, const void* key);

// Loads `count` instructions of 8 bytes as a BPF_PROG_TYPE_SOCKET_FILTER.
int LoadSocketFilter(const void* instructions, uint32_t count);
// Replaces the socket's filter.
int AttachSocketFilter(int socket, int program);
// What the program returns for a frame, as a packet socket would show it.
int64_t RunSocketFilter(int program, const uint8_t* frame, size_t length);

}  // namespace berth
