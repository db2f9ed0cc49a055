// Poll: tells JavaScript on its own loop when a descriptor that Node has no stream for (netlink, virtio port) is ready.
//
// Borrows the descriptor, which must outlive it. watch(events) asks for READABLE (1) and WRITABLE (2), 0 for none; the callback gets
// what is ready, level-triggered, or a negative errno. A Poll that watches keeps the loop alive; close() ends it for good.
#include <napi.h>

#include <errno.h>
#include <uv.h>

namespace berth {

class PollBinding : public Napi::ObjectWrap<PollBinding> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "Poll", {InstanceMethod<&PollBinding::Watch>("watch"), InstanceMethod<&PollBinding::Close>("close")});
  }

  // (fd, onReady: (events) => void)
  explicit PollBinding(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<PollBinding>(info), env_(info.Env()), context_(info.Env(), "berth.Poll"), on_ready_(Napi::Persistent(info[1].As<Napi::Function>())) {
    uv_loop_t* loop = nullptr;
    napi_get_uv_event_loop(env_, &loop);
    auto* handle = new uv_poll_t;
    int result = uv_poll_init(loop, handle, info[0].As<Napi::Number>().Int32Value());
    if (result != 0) {
      delete handle;
      Napi::Error::New(env_, "Poll: errno " + std::to_string(-result)).ThrowAsJavaScriptException();
      return;
    }
    handle->data = this;
    handle_ = handle;
    napi_add_env_cleanup_hook(env_, AtExit, this);
    Ref();
  }

  ~PollBinding() override { End(); }

 private:
  static void AtExit(void* self) { static_cast<PollBinding*>(self)->End(); }

  static void OnReady(uv_poll_t* handle, int status, int events) {
    auto* self = static_cast<PollBinding*>(handle->data);
    Napi::HandleScope scope(self->env_);
    self->on_ready_.MakeCallback(self->Value(), {Napi::Number::New(self->env_, status < 0 ? status : events)}, self->context_);
    if (self->env_.IsExceptionPending()) napi_fatal_exception(self->env_, self->env_.GetAndClearPendingException().Value());
  }

  void End() {
    if (handle_ == nullptr) return;
    napi_remove_env_cleanup_hook(env_, AtExit, this);
    uv_poll_t* handle = handle_;
    handle_ = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(handle), [](uv_handle_t* closed) { delete reinterpret_cast<uv_poll_t*>(closed); });
  }

  Napi::Value Watch(const Napi::CallbackInfo& info) {
    if (handle_ == nullptr) return Napi::Number::New(env_, -EBADF);
    int events = info[0].As<Napi::Number>().Int32Value();
    return Napi::Number::New(env_, events == 0 ? uv_poll_stop(handle_) : uv_poll_start(handle_, events, OnReady));
  }

  Napi::Value Close(const Napi::CallbackInfo& info) {
    if (handle_ != nullptr) {
      End();
      Unref();
    }
    return env_.Undefined();
  }

  Napi::Env env_;
  Napi::AsyncContext context_;
  Napi::FunctionReference on_ready_;
  uv_poll_t* handle_ = nullptr;
};

Napi::Function DefinePoll(Napi::Env env) { return PollBinding::Define(env); }

}  // namespace berth
