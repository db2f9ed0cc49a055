{
  "targets": [
    {
      "target_name": "berth",
      "sources": [
        "src/addon.cc",
        "src/bpf.cc",
        "src/bpf_binding.cc",
        "src/ports.cc",
        "src/ports_binding.cc",
        "src/poll_binding.cc",
        "src/sock_diag.cc",
        "src/sock_diag_binding.cc",
        "src/ports_receive.cc",
        "src/ports_send.cc",
        "src/sockets.cc",
        "src/sockets_binding.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_DISABLE_DEPRECATED", "NAPI_DISABLE_CPP_EXCEPTIONS"],
      "cflags_cc": ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-fno-exceptions"]
    }
  ]
}
