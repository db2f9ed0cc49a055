// Thin N-API layer over bpf.h. Descriptors and results are numbers; a negative one is an errno.
#include <napi.h>

#include <errno.h>
#include <sys/mman.h>

#include "bpf.h"

namespace berth {

namespace {

int Int(const Napi::CallbackInfo& info, int argument) { return info[argument].As<Napi::Number>().Int32Value(); }
uint32_t Uint(const Napi::CallbackInfo& info, int argument) { return info[argument].As<Napi::Number>().Uint32Value(); }
Napi::Value Result(const Napi::CallbackInfo& info, int64_t value) { return Napi::Number::New(info.Env(), static_cast<double>(value)); }

// (type, keyBytes, valueBytes, entries, flags) → fd
Napi::Value CreateMapFn(const Napi::CallbackInfo& info) {
  return Result(info, CreateMap(Uint(info, 0), Uint(info, 1), Uint(info, 2), Uint(info, 3), Uint(info, 4)));
}

// (fd, key, value: Uint32Array) → 0
Napi::Value UpdateMapFn(const Napi::CallbackInfo& info) {
  return Result(info, UpdateMap(Int(info, 0), info[1].As<Napi::Uint32Array>().Data(), info[2].As<Napi::Uint32Array>().Data()));
}

// (fd, key: Uint32Array) → 0
Napi::Value DeleteFromMapFn(const Napi::CallbackInfo& info) {
  return Result(info, DeleteFromMap(Int(info, 0), info[1].As<Napi::Uint32Array>().Data()));
}

// (fd, bytes) → the map's values as an ArrayBuffer that keeps the map, or a negative errno
Napi::Value MapMemoryFn(const Napi::CallbackInfo& info) {
  size_t bytes = Uint(info, 1);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, Int(info, 0), 0);
  if (memory == MAP_FAILED) return Result(info, -errno);
  return Napi::ArrayBuffer::New(info.Env(), memory, bytes, [bytes](Napi::Env, void* data) { munmap(data, bytes); });
}

// () → 0
Napi::Value WaitFn(const Napi::CallbackInfo& info) { return Result(info, WaitForPrograms()); }

// (use, instructions: Uint8Array, license) → fd
Napi::Value LoadFn(const Napi::CallbackInfo& info) {
  auto instructions = info[1].As<Napi::Uint8Array>();
  std::string license = info[2].As<Napi::String>().Utf8Value();
  auto count = static_cast<uint32_t>(instructions.ByteLength() / 8);
  return Result(info, LoadProgram(static_cast<ProgramUse>(Int(info, 0)), instructions.Data(), count, license.c_str()));
}

// (socket, program) → 0
Napi::Value AttachFn(const Napi::CallbackInfo& info) { return Result(info, AttachSocketFilter(Int(info, 0), Int(info, 1))); }

// (ifindex, program) → fd
Napi::Value AttachIngressFn(const Napi::CallbackInfo& info) { return Result(info, AttachIngress(Int(info, 0), Int(info, 1))); }

// (use, program, frame: Uint8Array) → what the program returns
Napi::Value RunFn(const Napi::CallbackInfo& info) {
  auto frame = info[2].As<Napi::Uint8Array>();
  return Result(info, RunProgram(static_cast<ProgramUse>(Int(info, 0)), Int(info, 1), frame.Data(), frame.ByteLength()));
}

}  // namespace

void ExportBpf(Napi::Env env, Napi::Object exports) {
  exports.Set("bpfCreateMap", Napi::Function::New(env, CreateMapFn));
  exports.Set("bpfUpdateMap", Napi::Function::New(env, UpdateMapFn));
  exports.Set("bpfDeleteFromMap", Napi::Function::New(env, DeleteFromMapFn));
  exports.Set("bpfMapMemory", Napi::Function::New(env, MapMemoryFn));
  exports.Set("bpfLoad", Napi::Function::New(env, LoadFn));
  exports.Set("waitForPrograms", Napi::Function::New(env, WaitFn));
  exports.Set("bpfAttach", Napi::Function::New(env, AttachFn));
  exports.Set("bpfAttachIngress", Napi::Function::New(env, AttachIngressFn));
  exports.Set("bpfRun", Napi::Function::New(env, RunFn));
}

}  // namespace berth
