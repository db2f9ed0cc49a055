{
  "targets": [
    {
      "target_name": "reference",
      "sources": ["reference.c"],
      "cflags!": ["-O2", "-Os", "-fno-omit-frame-pointer"],
      "cflags": ["-O3", "-fomit-frame-pointer", "-std=gnu11", "-Wall", "-Wextra"]
    }
  ]
}
