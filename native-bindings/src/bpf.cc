#include "bpf.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vector>

namespace berth {

namespace {

// Newer than Debian 12's headers (linux 6.6): BPF_TCX_INGRESS.
constexpr uint32_t kTcxIngress = 46;
// BPF_F_BEFORE: with nothing named to be before, the first of all.
constexpr uint32_t kBefore = 1u << 3;
constexpr int kMostTries = 20;

// The kernel's own way to say "a pointer" in an attribute.
uint64_t Address(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

int Bpf(int command, bpf_attr& attributes) {
  long result = syscall(SYS_bpf, command, &attributes, sizeof attributes);
  return result < 0 ? -errno : static_cast<int>(result);
}

}  // namespace

int CreateMap(uint32_t type, uint32_t key_bytes, uint32_t value_bytes, uint32_t entries, uint32_t flags) {
  bpf_attr attributes{};
  attributes.map_type = type;
  attributes.key_size = key_bytes;
  attributes.value_size = value_bytes;
  attributes.max_entries = entries;
  attributes.map_flags = flags;
  return Bpf(BPF_MAP_CREATE, attributes);
}

int UpdateMap(int map, const void* key, const void* value) {
  bpf_attr attributes{};
  attributes.map_fd = static_cast<uint32_t>(map);
  attributes.key = Address(key);
  attributes.value = Address(value);
  return Bpf(BPF_MAP_UPDATE_ELEM, attributes);
}

int DeleteFromMap(int map, const void* key) {
  bpf_attr attributes{};
  attributes.map_fd = static_cast<uint32_t>(map);
  attributes.key = Address(key);
  return Bpf(BPF_MAP_DELETE_ELEM, attributes);
}

int WaitForPrograms() { return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) < 0 ? -errno : 0; }

int LoadProgram(ProgramUse use, const void* instructions, uint32_t count, const char* license) {
  bpf_attr attributes{};
  attributes.prog_type = use == kIngress ? BPF_PROG_TYPE_SCHED_CLS : BPF_PROG_TYPE_SOCKET_FILTER;
  attributes.insns = Address(instructions);
  attributes.insn_cnt = count;
  attributes.license = Address(license);
  // The verifier gives up where a signal is pending, such as that of a child that has ended.
  int result = -EAGAIN;
  for (int tries = 0; result == -EAGAIN && tries < kMostTries; tries++) result = Bpf(BPF_PROG_LOAD, attributes);
  return result;
}

int AttachSocketFilter(int socket, int program) {
  return setsockopt(socket, SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof program) < 0 ? -errno : 0;
}

int AttachIngress(int ifindex, int program) {
  bpf_attr attributes{};
  attributes.link_create.prog_fd = static_cast<uint32_t>(program);
  attributes.link_create.target_ifindex = static_cast<uint32_t>(ifindex);
  attributes.link_create.attach_type = kTcxIngress;
  attributes.link_create.flags = kBefore;
  return Bpf(BPF_LINK_CREATE, attributes);
}

int64_t RunProgram(ProgramUse use, int program, const uint8_t* frame, size_t length) {
  // The trial takes an Ethernet header off before it runs a socket's program, as for other sockets: give it one to take.
  size_t header = use == kSocketFilter ? 14 : 0;
  std::vector<uint8_t> data(header + length);
  memcpy(data.data() + header, frame, length);
  bpf_attr attributes{};
  attributes.test.prog_fd = static_cast<uint32_t>(program);
  attributes.test.data_in = Address(data.data());
  attributes.test.data_size_in = static_cast<uint32_t>(data.size());
  int result = Bpf(BPF_PROG_TEST_RUN, attributes);
  return result < 0 ? result : static_cast<int64_t>(attributes.test.retval);
}

}  // namespace berth
