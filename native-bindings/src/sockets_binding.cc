// Thin N-API layer over sockets.h. Descriptors and results are numbers; a negative one is an errno.
#include <napi.h>

#include <net/if.h>
#include <unistd.h>

#include <vector>

#include "sockets.h"

namespace berth {

namespace {

int Int(const Napi::CallbackInfo& info, int argument) { return info[argument].As<Napi::Number>().Int32Value(); }
uint32_t Uint(const Napi::CallbackInfo& info, int argument) { return info[argument].As<Napi::Number>().Uint32Value(); }
bool Bool(const Napi::CallbackInfo& info, int argument) { return info[argument].As<Napi::Boolean>().Value(); }
Napi::Value Result(const Napi::CallbackInfo& info, int value) { return Napi::Number::New(info.Env(), value); }

// (ifindex) → fd
Napi::Value OpenPacketFn(const Napi::CallbackInfo& info) { return Result(info, OpenPacket(Int(info, 0), false, nullptr, 0, 0)); }

// (ifindex, promiscuous, slotBytes, blockBytes, blocks, shortest, longest) → fd
Napi::Value OpenRingFn(const Napi::CallbackInfo& info) {
  RingShape ring{Uint(info, 2), Uint(info, 3), Uint(info, 4)};
  return Result(info, OpenPacket(Int(info, 0), Bool(info, 1), &ring, Uint(info, 5), Uint(info, 6)));
}

// (name, netnsFd or -1, offloads) → fd
Napi::Value OpenTapFn(const Napi::CallbackInfo& info) {
  std::string name = info[0].As<Napi::String>().Utf8Value();
  return Result(info, OpenTap(name.c_str(), Int(info, 1), Bool(info, 2)));
}

Napi::Value TakeDropsFn(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(TakeDrops(Int(info, 0))));
}

Napi::Value InterfaceIndexFn(const Napi::CallbackInfo& info) {
  std::string name = info[0].As<Napi::String>().Utf8Value();
  return Result(info, static_cast<int>(if_nametoindex(name.c_str())));
}

Napi::Value InterfaceFlagsFn(const Napi::CallbackInfo& info) {
  return Result(info, InterfaceFlags(info[0].As<Napi::String>().Utf8Value().c_str()));
}

Napi::Value SetTapPersistentFn(const Napi::CallbackInfo& info) { return Result(info, SetTapPersistent(Int(info, 0), Bool(info, 1))); }
Napi::Value OpenEventFn(const Napi::CallbackInfo& info) { return Result(info, OpenEvent()); }
Napi::Value SignalEventFn(const Napi::CallbackInfo& info) { return Result(info, SignalEvent(Int(info, 0))); }
Napi::Value CloseFdFn(const Napi::CallbackInfo& info) { return Result(info, close(Int(info, 0))); }
Napi::Value OpenSenderFn(const Napi::CallbackInfo& info) { return Result(info, OpenSender(Int(info, 0))); }
Napi::Value RaiseFileLimitFn(const Napi::CallbackInfo& info) { return Result(info, RaiseFileLimit(Uint(info, 0))); }

// (address, protocol, first, last, fds: Int32Array) → how many were bound; fds[bound] is then the errno of the next.
Napi::Value ReservePortsFn(const Napi::CallbackInfo& info) {
  auto fds = info[4].As<Napi::Int32Array>();
  int error = 0;
  int bound = ReservePorts(Uint(info, 0), Int(info, 1), Int(info, 2), Int(info, 3), fds.Data(), &error);
  if (bound < Int(info, 3) - Int(info, 2) + 1) fds[bound] = error;
  return Result(info, bound);
}

// (fd, frames: Uint8Array, offset, length) → 0
Napi::Value SendFrameFn(const Napi::CallbackInfo& info) {
  return Result(info, SendFrame(Int(info, 0), info[1].As<Napi::Uint8Array>().Data() + Uint(info, 2), Uint(info, 3)));
}

}  // namespace

void ExportSockets(Napi::Env env, Napi::Object exports) {
  exports.Set("openPacket", Napi::Function::New(env, OpenPacketFn));
  exports.Set("openRing", Napi::Function::New(env, OpenRingFn));
  exports.Set("takeDrops", Napi::Function::New(env, TakeDropsFn));
  exports.Set("interfaceIndex", Napi::Function::New(env, InterfaceIndexFn));
  exports.Set("interfaceFlags", Napi::Function::New(env, InterfaceFlagsFn));
  exports.Set("openTap", Napi::Function::New(env, OpenTapFn));
  exports.Set("setTapPersistent", Napi::Function::New(env, SetTapPersistentFn));
  exports.Set("openEvent", Napi::Function::New(env, OpenEventFn));
  exports.Set("signalEvent", Napi::Function::New(env, SignalEventFn));
  exports.Set("closeFd", Napi::Function::New(env, CloseFdFn));
  exports.Set("openSender", Napi::Function::New(env, OpenSenderFn));
  exports.Set("sendFrame", Napi::Function::New(env, SendFrameFn));
  exports.Set("reservePorts", Napi::Function::New(env, ReservePortsFn));
  exports.Set("raiseFileLimit", Napi::Function::New(env, RaiseFileLimitFn));
}

}  // namespace berth
