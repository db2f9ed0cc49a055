// Thin N-API layer over ports.h: numbers in, numbers out; negative numbers are errnos that native/binding.ts turns into
// errors. The typed arrays given to the constructor are kept alive by the object; memories are shown, never copied.
#include <napi.h>

#include <memory>

#include "ports.h"

namespace berth {

class PortsBinding : public Napi::ObjectWrap<PortsBinding> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "Ports",
                       {
                           InstanceMethod<&PortsBinding::AttachEvent>("attachEvent"),
                           InstanceMethod<&PortsBinding::AttachRings>("attachRings"),
                           InstanceMethod<&PortsBinding::AttachLink>("attachLink"),
                           InstanceMethod<&PortsBinding::Detach>("detach"),
                           InstanceMethod<&PortsBinding::Memory>("memory"),
                           InstanceMethod<&PortsBinding::SetOtherMemory>("setOtherMemory"),
                           InstanceMethod<&PortsBinding::Wait>("wait"),
                           InstanceMethod<&PortsBinding::ReceiveRings>("receiveRings"),
                           InstanceMethod<&PortsBinding::ReceiveLink>("receiveLink"),
                           InstanceMethod<&PortsBinding::Forward>("forward"),
                           InstanceMethod<&PortsBinding::SendOne>("sendOne"),
                           InstanceMethod<&PortsBinding::Close>("close"),
                       });
  }

  explicit PortsBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<PortsBinding>(info) {
    // (offset, length, wireLength, seconds, nanoseconds: Uint32Array; verdict, ready: Int32Array; maxPorts)
    Descriptors d;
    d.offset = Keep<uint32_t, Napi::Uint32Array>(info, 0);
    d.length = Keep<uint32_t, Napi::Uint32Array>(info, 1);
    d.wire_length = Keep<uint32_t, Napi::Uint32Array>(info, 2);
    d.seconds = Keep<uint32_t, Napi::Uint32Array>(info, 3);
    d.nanoseconds = Keep<uint32_t, Napi::Uint32Array>(info, 4);
    d.verdict = Keep<int32_t, Napi::Int32Array>(info, 5);
    d.ready = Keep<int32_t, Napi::Int32Array>(info, 6);
    d.capacity = static_cast<uint32_t>(info[0].As<Napi::Uint32Array>().ElementLength());
    ports_ = std::make_unique<Ports>(d, info[7].As<Napi::Number>().Uint32Value());
    if (ports_->error() != 0) Napi::Error::New(info.Env(), "Ports: errno " + std::to_string(ports_->error())).ThrowAsJavaScriptException();
  }

 private:
  template <typename T, typename Array>
  T* Keep(const Napi::CallbackInfo& info, int argument) {
    Array array = info[argument].As<Array>();
    kept_.push_back(Napi::Persistent(array.template As<Napi::Object>()));
    return array.Data();
  }

  static int Int(const Napi::CallbackInfo& info, int argument) { return info[argument].As<Napi::Number>().Int32Value(); }
  static uint32_t Uint(const Napi::CallbackInfo& info, int argument) { return info[argument].As<Napi::Number>().Uint32Value(); }
  static Napi::Value Result(const Napi::CallbackInfo& info, int value) { return Napi::Number::New(info.Env(), value); }

  Napi::Value AttachEvent(const Napi::CallbackInfo& info) { return Result(info, ports_->AttachEvent(Int(info, 0))); }
  // (mtu), then (fd, slotBytes, blockBytes, blocks) of the ring of small slots and of the other
  Napi::Value AttachRings(const Napi::CallbackInfo& info) {
    const int fds[] = {Int(info, 1), Int(info, 5)};
    const RingShape shapes[] = {{Uint(info, 2), Uint(info, 3), Uint(info, 4)}, {Uint(info, 6), Uint(info, 7), Uint(info, 8)}};
    return Result(info, ports_->AttachRings(fds, shapes, Uint(info, 0)));
  }
  Napi::Value AttachLink(const Napi::CallbackInfo& info) {
    return Result(info, ports_->AttachLink(Int(info, 0), Int(info, 1), info[2].As<Napi::Boolean>().Value()));
  }
  Napi::Value Detach(const Napi::CallbackInfo& info) {
    return Result(info, ports_->Detach(Int(info, 0), info[1].As<Napi::Boolean>().Value()));
  }
  // The memory as an ArrayBuffer that borrows it: valid until close().
  Napi::Value Memory(const Napi::CallbackInfo& info) {
    auto which = static_cast<enum Memory>(Int(info, 0));
    return Napi::ArrayBuffer::New(info.Env(), ports_->memory(which), ports_->memory_bytes(which));
  }
  Napi::Value SetOtherMemory(const Napi::CallbackInfo& info) {
    auto bytes = info[0].As<Napi::Uint8Array>();
    kept_.push_back(Napi::Persistent(bytes.As<Napi::Object>()));
    ports_->SetOtherMemory(bytes.Data(), bytes.ByteLength());
    return info.Env().Undefined();
  }
  Napi::Value Wait(const Napi::CallbackInfo& info) { return Result(info, ports_->Wait(Int(info, 0), Int(info, 1))); }
  Napi::Value ReceiveRings(const Napi::CallbackInfo& info) { return Result(info, ports_->ReceiveRings()); }
  Napi::Value ReceiveLink(const Napi::CallbackInfo& info) { return Result(info, ports_->ReceiveLink(Int(info, 0))); }
  Napi::Value Forward(const Napi::CallbackInfo& info) {
    return Result(info, ports_->Forward(static_cast<enum Memory>(Int(info, 0)), Uint(info, 1)));
  }
  Napi::Value SendOne(const Napi::CallbackInfo& info) {
    return Result(info, ports_->SendOne(static_cast<enum Memory>(Int(info, 0)), Int(info, 1), Uint(info, 2), Uint(info, 3)));
  }
  // Closes every descriptor and unmaps the ring. The views of the memories must not be touched afterwards: V8 keeps no
  // copy of them, so the buffers are detached first.
  Napi::Value Close(const Napi::CallbackInfo& info) {
    for (unsigned i = 0; i < info.Length(); i++) {
      if (info[i].IsArrayBuffer()) info[i].As<Napi::ArrayBuffer>().Detach();
    }
    ports_.reset();
    kept_.clear();
    return info.Env().Undefined();
  }

  std::unique_ptr<Ports> ports_;
  std::vector<Napi::ObjectReference> kept_;
};

Napi::Function DefinePorts(Napi::Env env) { return PortsBinding::Define(env); }

}  // namespace berth
