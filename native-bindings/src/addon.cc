// The addon: no state of its own; everything lives in the objects it hands out, one set per environment (thread).
#include <napi.h>

namespace berth {
Napi::Function DefinePorts(Napi::Env env);
Napi::Function DefineSockDiag(Napi::Env env);
Napi::Value NetnsCookieFn(const Napi::CallbackInfo& info);
Napi::Function DefinePoll(Napi::Env env);
void ExportSockets(Napi::Env env, Napi::Object exports);
void ExportBpf(Napi::Env env, Napi::Object exports);
}  // namespace berth

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("Ports", berth::DefinePorts(env));
  exports.Set("SockDiag", berth::DefineSockDiag(env));
  exports.Set("netnsCookie", Napi::Function::New(env, berth::NetnsCookieFn));
  exports.Set("Poll", berth::DefinePoll(env));
  berth::ExportSockets(env, exports);
  berth::ExportBpf(env, exports);
  return exports;
}

NODE_API_MODULE(berth, Init)
