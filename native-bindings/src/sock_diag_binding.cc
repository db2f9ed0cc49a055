// Thin N-API layer over sock_diag.h: typed arrays in, counts out; a negative number is an errno.
#include <napi.h>

#include <errno.h>

#include <memory>

#include "sock_diag.h"

namespace berth {

class SockDiagBinding : public Napi::ObjectWrap<SockDiagBinding> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "SockDiag",
                       {
                           InstanceMethod<&SockDiagBinding::Dump>("dump"),
                           InstanceMethod<&SockDiagBinding::Subscribe>("subscribe"),
                           InstanceMethod<&SockDiagBinding::ReadDestroyed>("readDestroyed"),
                           InstanceMethod<&SockDiagBinding::Close>("close"),
                       });
  }

  explicit SockDiagBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<SockDiagBinding>(info), diag_(std::make_unique<SockDiag>()) {
    if (diag_->error() != 0) Napi::Error::New(info.Env(), "SockDiag: errno " + std::to_string(diag_->error())).ThrowAsJavaScriptException();
  }

 private:
  static Napi::Value Result(const Napi::CallbackInfo& info, int value) { return Napi::Number::New(info.Env(), value); }

  // (protocol, which, ports: Uint16Array, kinds: Uint8Array; 65,536 elements each) → count
  Napi::Value Dump(const Napi::CallbackInfo& info) {
    auto ports = info[2].As<Napi::Uint16Array>();
    auto kinds = info[3].As<Napi::Uint8Array>();
    if (diag_ == nullptr) return Result(info, -EBADF);
    if (ports.ElementLength() < 65536 || kinds.ElementLength() < 65536) return Result(info, -EINVAL);
    return Result(info, diag_->Dump(info[0].As<Napi::Number>().Int32Value(), info[1].As<Napi::Number>().Uint32Value(), ports.Data(), kinds.Data()));
  }
  // () → descriptor
  Napi::Value Subscribe(const Napi::CallbackInfo& info) { return Result(info, diag_ == nullptr ? -EBADF : diag_->Subscribe()); }
  // (out: Uint32Array) → count
  Napi::Value ReadDestroyed(const Napi::CallbackInfo& info) {
    auto out = info[0].As<Napi::Uint32Array>();
    if (diag_ == nullptr) return Result(info, -EBADF);
    return Result(info, diag_->ReadDestroyed(out.Data(), static_cast<uint32_t>(out.ElementLength())));
  }
  Napi::Value Close(const Napi::CallbackInfo& info) {
    diag_.reset();
    return info.Env().Undefined();
  }

  std::unique_ptr<SockDiag> diag_;
};

Napi::Value NetnsCookieFn(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), static_cast<double>(NetnsCookie())); }

Napi::Function DefineSockDiag(Napi::Env env) { return SockDiagBinding::Define(env); }

}  // namespace berth
