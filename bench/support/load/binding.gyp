{
  "targets": [
    {
      "target_name": "load",
      "type": "executable",
      "product_extension": "",
      "sources": ["load.c", "serve.c", "streams.c", "exchanges.c", "datagrams.c"],
      "defines": ["_GNU_SOURCE"],
      "cflags": ["-O2", "-std=gnu11", "-Wall", "-Wextra"]
    }
  ]
}
