/*
 * The steering loop in C: what the JavaScript stages are measured against. Built for the bench only.
 * One file on purpose: the compiler sees the whole loop, as it would in a C data plane.
 *
 * Same         memory, descriptors, table, passes, hash, stores, verdicts and reasons as src/dataplane/{parse,lookup,
 *              verdict-ingress}.ts; the names are theirs. The bench compares every frame's results before it measures.
 * Bound once   bind() notes where the arrays lie (and keeps them alive); steer() is then one crossing a batch.
 * Less         only what needs no memory of earlier frames: fragments, ICMP errors and echo replies for our addresses,
 *              and the extras (copies, answers) are not decided here and do not occur in the bench's frames.
 */
#define NAPI_VERSION 8
#include <node_api.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { TCP, UDP, FIRST_FRAGMENT, ICMP = 4, LATER_FRAGMENT, SHORT_FRAGMENT, OTHER_PROTOCOL_KIND, ARP, NOT_IPV4_KIND, MALFORMED_KIND, OTHER_STATION_KIND };
enum { DISCARD = -1, PASS = -2 };
enum { NO_REASON, NOT_IN_USE, QUARANTINED, NOT_LEASED, ORPHAN_FRAGMENT, NOT_OURS, NOT_IPV4, OTHER_PROTOCOL, MALFORMED, OTHER_STATION };
enum { MISS = -1, NOT_OUR_ADDRESS = -2, UNDECIDED = -99 };
enum { STATE_MASK = 7, STATE_FREE = 0, STATE_IN_USE = 2, STATE_QUARANTINED = 3, IMPLICIT = 1 << 4, ACTIVE = 1 << 5, LINK_SHIFT = 16 };
#define HEADER_WORDS 16
#define ADDRESS_WHOLE 0x80000000u
#define ADDRESS_INDEX_MASK 0x7fffu
#define HASH_MULTIPLIER 0x9e3779b1u
#define TCP_OR_UDP ((1u << 6) | (1u << 17))
#define LIKELY(x) __builtin_expect(!!(x), 1)

typedef struct {
  const uint8_t *bytes;
  const uint32_t *offset, *length, *wireLength;
  uint8_t *kind, *reason;
  uint32_t *l3, *l4, *end, *source, *destination, *ports;
  int32_t *position, *verdict;
  uint32_t *words, base, mask, shift, addressMask, addressShift;
  uint32_t any, stationHigh, stationLow;
  napi_ref kept;
} Steering;

static inline uint32_t read32(const uint8_t *at) {
  uint32_t value;
  memcpy(&value, at, 4);
  return __builtin_bswap32(value);
}

static inline uint32_t read16(const uint8_t *at) {
  uint16_t value;
  memcpy(&value, at, 2);
  return __builtin_bswap16(value);
}

static uint8_t parseArp(const Steering *s, uint32_t i, uint32_t header, uint32_t captureEnd) {
  const uint8_t *at = s->bytes + header;
  if (header + 28 > captureEnd) return MALFORMED_KIND;
  if (read32(at) != 0x00010800 || read16(at + 4) != 0x0604) return NOT_IPV4_KIND;
  s->l3[i] = header;
  s->source[i] = read32(at + 14);
  s->destination[i] = read32(at + 24);
  return ARP;
}

static void __attribute__((noinline)) parseAny(const Steering *s, uint32_t i) {
  const uint8_t *restrict bytes = s->bytes;
  const uint32_t *restrict offset = s->offset, *restrict length = s->length, *restrict wireLength = s->wireLength;
  uint8_t *restrict kind = s->kind;
  uint32_t *restrict l3 = s->l3, *restrict l4 = s->l4, *restrict end = s->end;
  uint32_t *restrict source = s->source, *restrict destination = s->destination, *restrict ports = s->ports;
  const bool any = s->any;
  const uint32_t high = s->stationHigh, low = s->stationLow;

  const uint32_t start = offset[i];
  const uint32_t captured = length[i];
  l3[i] = 0;
  if (captured < 14) {
    kind[i] = MALFORMED_KIND;
    return;
  }
  if (!any && (bytes[start] & 1) == 0 && (read32(bytes + start) != high || read16(bytes + start + 4) != low)) {
    kind[i] = OTHER_STATION_KIND;
    return;
  }
  uint32_t header = start + 14;
  const uint32_t captureEnd = start + captured;
  uint32_t etherType = read16(bytes + header - 2);
  if (etherType != 0x0800) {
    bool cut = false;
    for (int tags = 0; tags < 2 && !cut; tags++) {
      if (etherType != 0x8100 && etherType != 0x88a8 && etherType != 0x9100) break;
      header += 4;
      cut = header > captureEnd;
      if (!cut) etherType = read16(bytes + header - 2);
    }
    if (cut || etherType != 0x0800) {
      kind[i] = cut ? MALFORMED_KIND : etherType == 0x0806 ? parseArp(s, i, header, captureEnd) : NOT_IPV4_KIND;
      return;
    }
  }

  const uint32_t present = captureEnd - header;
  if (present < 20) {
    kind[i] = MALFORMED_KIND;
    return;
  }
  const uint32_t first = read32(bytes + header);
  const uint32_t headerBytes = (first >> 22) & 0x3c;
  uint32_t total = first & 0xffff;
  if (total == 0) total = present;
  if (first >> 28 != 4 || headerBytes < 20 || total < headerBytes) {
    kind[i] = MALFORMED_KIND;
    return;
  }
  l3[i] = header;
  source[i] = read32(bytes + header + 12);
  destination[i] = read32(bytes + header + 16);
  const uint32_t transport = header + headerBytes;
  const uint32_t limit = header + (total < present ? total : present);
  l4[i] = transport;
  end[i] = limit;
  if (transport > captureEnd || total > wireLength[i] - (header - start)) {
    kind[i] = MALFORMED_KIND;
    return;
  }

  const uint32_t fragment = read16(bytes + header + 6);
  const uint32_t protocol = bytes[header + 9];
  if (protocol == 6 || protocol == 17) {
    const bool isTcp = protocol == 6;
    if ((fragment & 0x1fff) != 0) {
      kind[i] = LATER_FRAGMENT;
    } else if (transport + (isTcp ? 20 : 8) > limit) {
      kind[i] = (fragment & 0x2000) != 0 ? SHORT_FRAGMENT : MALFORMED_KIND;
    } else {
      ports[i] = read32(bytes + transport);
      kind[i] = (isTcp ? TCP : UDP) + ((fragment & 0x2000) != 0 ? FIRST_FRAGMENT : 0);
    }
  } else if (protocol == 1) {
    if ((fragment & 0x1fff) != 0) kind[i] = LATER_FRAGMENT;
    else if (transport + 8 > limit) kind[i] = (fragment & 0x2000) != 0 ? SHORT_FRAGMENT : MALFORMED_KIND;
    else kind[i] = ICMP;
  } else {
    kind[i] = OTHER_PROTOCOL_KIND;
  }
}

/* The plain frame in line, any other by a call, as in JavaScript. */
static void parse(const Steering *s, uint32_t count) {
  const uint8_t *restrict bytes = s->bytes;
  const uint32_t *restrict offset = s->offset, *restrict length = s->length, *restrict wireLength = s->wireLength;
  uint8_t *restrict kind = s->kind;
  uint32_t *restrict l3 = s->l3, *restrict l4 = s->l4, *restrict end = s->end;
  uint32_t *restrict source = s->source, *restrict destination = s->destination, *restrict ports = s->ports;
  const uint32_t high = s->stationHigh, low = s->stationLow, care = s->any ? 0 : ~0u;

  for (uint32_t i = 0; i < count; i++) {
    const uint32_t start = offset[i];
    const uint32_t captured = length[i];
    const uint8_t *at = bytes + start;
    if (LIKELY(captured >= 42 && (((read32(at) ^ high) | (read16(at + 4) ^ low)) & care) == 0 && read32(at + 12) >> 8 == 0x080045)) {
      const uint32_t total = read16(at + 16);
      const uint32_t flags = read32(at + 20);
      const uint32_t protocol = flags & 0xff;
      const uint32_t isUdp = (protocol >> 4) & 1;
      const uint32_t present = captured - 14;
      const uint32_t usable = total < present ? total : present;
      if (LIKELY((flags & 0x3fff0000) == 0 && protocol <= 31 && ((TCP_OR_UDP >> protocol) & 1) != 0 && total <= wireLength[i] - 14 &&
                 usable >= 40 - 12 * isUdp)) {
        const uint32_t header = start + 14;
        kind[i] = (uint8_t)isUdp;
        l3[i] = header;
        l4[i] = header + 20;
        end[i] = header + usable;
        source[i] = read32(at + 26);
        destination[i] = read32(at + 30);
        ports[i] = read32(at + 34);
        continue;
      }
    }
    parseAny(s, i);
  }
}

static inline int32_t probe(const uint32_t *words, uint32_t base, uint32_t mask, uint32_t shift, uint32_t key) {
  uint32_t slot = (key * HASH_MULTIPLIER) >> shift;
  for (;;) {
    const uint32_t at = base + (slot << 1);
    const uint32_t found = words[at];
    if (found == key) return (int32_t)(at + 1);
    if (found == 0) return MISS;
    slot = (slot + 1) & mask;
  }
}

static inline uint32_t probeAddress(const uint32_t *words, uint32_t mask, uint32_t shift, uint32_t address) {
  uint32_t slot = (address * HASH_MULTIPLIER) >> shift;
  for (;;) {
    const uint32_t at = HEADER_WORDS + (slot << 1);
    const uint32_t entry = words[at + 1];
    if (entry == 0 || words[at] == address) return entry;
    slot = (slot + 1) & mask;
  }
}

static int32_t __attribute__((noinline)) lookupFar(const Steering *s, uint32_t i) {
  const uint32_t entry = probeAddress(s->words, s->addressMask, s->addressShift, s->destination[i]);
  if (entry == 0) return NOT_OUR_ADDRESS;
  const uint32_t prefix = (entry & ADDRESS_INDEX_MASK) << 17;
  const int32_t at = probe(s->words, s->base, s->mask, s->shift, prefix | ((s->kind[i] & 1u) << 16) | (s->ports[i] & 0xffff));
  const bool whole = (entry & ADDRESS_WHOLE) != 0 && (at == MISS || (s->words[at] & STATE_MASK) == 0);
  return whole ? probe(s->words, s->base, s->mask, s->shift, prefix) : at;
}

/* The address's first pair and the key's first two slots in line, the rest by a call, as in JavaScript. */
static void lookup(const Steering *s, uint32_t count) {
  const uint8_t *restrict kind = s->kind;
  const uint32_t *restrict addresses = s->destination, *restrict ports = s->ports, *restrict words = s->words;
  int32_t *restrict position = s->position;
  const uint32_t base = s->base, mask = s->mask, shift = s->shift, addressShift = s->addressShift;
  uint32_t lastAddress = 0, prefix = 0;

  for (uint32_t i = 0; i < count; i++) {
    const uint32_t protocol = kind[i];
    if (protocol > UDP + FIRST_FRAGMENT) continue;
    const uint32_t address = addresses[i];
    if (address != lastAddress || prefix == 0) {
      const uint32_t pair = HEADER_WORDS + (((address * HASH_MULTIPLIER) >> addressShift) << 1);
      const uint32_t entry = words[pair + 1];
      if (entry == 0) {
        position[i] = NOT_OUR_ADDRESS;
        continue;
      }
      if ((entry & ADDRESS_WHOLE) != 0 || words[pair] != address) {
        position[i] = lookupFar(s, i);
        continue;
      }
      lastAddress = address;
      prefix = (entry & ADDRESS_INDEX_MASK) << 17;
    }
    const uint32_t key = prefix | ((protocol & 1) << 16) | (ports[i] & 0xffff);
    const uint32_t slot = (key * HASH_MULTIPLIER) >> shift;
    const uint32_t first = words[base + (slot << 1)];
    const uint32_t at = base + (((slot + (first != key)) & mask) << 1);
    const uint32_t found = words[at];
    if (LIKELY(found == key)) {
      position[i] = (int32_t)(at + 1);
      continue;
    }
    if (first == 0 || found == 0) {
      position[i] = MISS;
      continue;
    }
    position[i] = lookupFar(s, i);
  }
}

static void decide(const Steering *s, uint32_t i, int32_t verdict, uint8_t reason) {
  s->verdict[i] = verdict;
  s->reason[i] = reason;
}

static void decideOther(const Steering *s, uint32_t i, uint8_t what) {
  if (what == OTHER_STATION_KIND) decide(s, i, PASS, OTHER_STATION);
  else if (what == MALFORMED_KIND) decide(s, i, PASS, MALFORMED);
  else if (what == NOT_IPV4_KIND) decide(s, i, PASS, NOT_IPV4);
  else if (probeAddress(s->words, s->addressMask, s->addressShift, s->destination[i]) == 0) decide(s, i, PASS, NOT_OURS);
  else if (what == ARP && read16(s->bytes + s->l3[i] + 6) == 1) decide(s, i, PASS, NO_REASON);
  else if (what == ICMP && s->bytes[s->l4[i]] == 8) decide(s, i, PASS, OTHER_PROTOCOL);
  else if (what == SHORT_FRAGMENT) decide(s, i, PASS, ORPHAN_FRAGMENT);
  else if (what == OTHER_PROTOCOL_KIND) decide(s, i, PASS, OTHER_PROTOCOL);
  else decide(s, i, UNDECIDED, NO_REASON);
}

static void decideIngress(const Steering *s, uint32_t count) {
  const uint8_t *restrict kind = s->kind;
  const int32_t *restrict position = s->position;
  uint32_t *words = s->words;
  int32_t *restrict verdict = s->verdict;
  uint8_t *restrict reason = s->reason;

  for (uint32_t i = 0; i < count; i++) {
    const uint8_t what = kind[i];
    if (what > UDP + FIRST_FRAGMENT) {
      decideOther(s, i, what);
      continue;
    }
    const int32_t at = position[i];
    uint32_t value = at < 0 ? STATE_FREE : words[at];
    const uint32_t state = value & STATE_MASK;
    if (state == STATE_IN_USE) {
      verdict[i] = 1 + (int32_t)(value >> LINK_SHIFT);
      reason[i] = NO_REASON;
      if ((value & (IMPLICIT | ACTIVE)) == IMPLICIT) {
        __atomic_compare_exchange_n(&words[at], &value, value | ACTIVE, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
      }
    } else if (state == STATE_FREE) {
      verdict[i] = PASS;
      reason[i] = at == NOT_OUR_ADDRESS ? NOT_OURS : NOT_LEASED;
    } else {
      verdict[i] = DISCARD;
      reason[i] = state == STATE_QUARANTINED ? QUARANTINED : NOT_IN_USE;
    }
  }
}

/* ---- N-API */

static napi_value fail(napi_env env, const char *what) {
  napi_throw_error(env, NULL, what);
  return NULL;
}

/* Start of the typed array `object[name]`. */
static void *arrayOf(napi_env env, napi_value object, const char *name) {
  napi_value value;
  void *data = NULL;
  if (napi_get_named_property(env, object, name, &value) != napi_ok) return NULL;
  napi_get_typedarray_info(env, value, NULL, NULL, &data, NULL, NULL);
  return data;
}

static uint32_t numberOf(napi_env env, napi_value object, const char *name) {
  napi_value value;
  uint32_t number = 0;
  if (napi_get_named_property(env, object, name, &value) == napi_ok) napi_get_value_uint32(env, value, &number);
  return number;
}

static void release(napi_env env, void *data, void *hint) {
  (void)hint;
  napi_delete_reference(env, ((Steering *)data)->kept);
  free(data);
}

/* bind(batch, slots, table, station) → a handle for steer() and the stages. */
static napi_value bind(napi_env env, napi_callback_info info) {
  napi_value args[4], kept, handle;
  size_t count = 4;
  napi_get_cb_info(env, info, &count, args, NULL, NULL);
  if (count != 4) return fail(env, "bind(batch, slots, table, station)");
  Steering *s = calloc(1, sizeof *s);
  if (s == NULL) return fail(env, "out of memory");
  s->kind = arrayOf(env, args[0], "kind");
  s->reason = arrayOf(env, args[0], "reason");
  s->l3 = arrayOf(env, args[0], "l3");
  s->l4 = arrayOf(env, args[0], "l4");
  s->end = arrayOf(env, args[0], "end");
  s->source = arrayOf(env, args[0], "source");
  s->destination = arrayOf(env, args[0], "destination");
  s->ports = arrayOf(env, args[0], "ports");
  s->position = arrayOf(env, args[0], "position");
  s->verdict = arrayOf(env, args[0], "verdict");
  s->bytes = arrayOf(env, args[1], "bytes");
  s->offset = arrayOf(env, args[1], "offset");
  s->length = arrayOf(env, args[1], "length");
  s->wireLength = arrayOf(env, args[1], "wireLength");
  s->words = arrayOf(env, args[2], "words");
  s->base = numberOf(env, args[2], "base");
  s->mask = numberOf(env, args[2], "mask");
  s->shift = numberOf(env, args[2], "shift");
  s->addressMask = numberOf(env, args[2], "addressMask");
  s->addressShift = numberOf(env, args[2], "addressShift");
  napi_value any;
  bool isAny = false;
  napi_get_named_property(env, args[3], "any", &any);
  napi_get_value_bool(env, any, &isAny);
  s->any = isAny;
  s->stationHigh = numberOf(env, args[3], "high");
  s->stationLow = numberOf(env, args[3], "low");
  const void *const arrays[] = {s->kind, s->reason, s->l3, s->l4, s->end, s->source, s->destination, s->ports,
                                s->position, s->verdict, s->bytes, s->offset, s->length, s->wireLength, s->words};
  for (size_t a = 0; a < sizeof arrays / sizeof *arrays; a++) {
    if (arrays[a] == NULL) {
      free(s);
      return fail(env, "bind: an array of FrameBatch, FrameSlots or SteeringTable has another name now");
    }
  }
  napi_create_array_with_length(env, 3, &kept);
  for (uint32_t a = 0; a < 3; a++) napi_set_element(env, kept, a, args[a]);
  napi_create_reference(env, kept, 1, &s->kept);
  napi_create_external(env, s, release, NULL, &handle);
  return handle;
}

/* steer(handle, count): parse, lookup, verdict. stage(handle, count, 0 … 2): one of them. */
static napi_value steer(napi_env env, napi_callback_info info) {
  napi_value args[3];
  size_t given = 3;
  void *data = NULL;
  uint32_t count = 0, stage = 3;
  napi_get_cb_info(env, info, &given, args, NULL, NULL);
  if (given < 2 || napi_get_value_external(env, args[0], &data) != napi_ok) return fail(env, "steer(handle, count)");
  napi_get_value_uint32(env, args[1], &count);
  if (given > 2) napi_get_value_uint32(env, args[2], &stage);
  if (stage == 0 || stage == 3) parse(data, count);
  if (stage == 1 || stage == 3) lookup(data, count);
  if (stage == 2 || stage == 3) decideIngress(data, count);
  return NULL;
}

NAPI_MODULE_INIT() {
  napi_value function;
  napi_create_function(env, "bind", NAPI_AUTO_LENGTH, bind, NULL, &function);
  napi_set_named_property(env, exports, "bind", function);
  napi_create_function(env, "steer", NAPI_AUTO_LENGTH, steer, NULL, &function);
  napi_set_named_property(env, exports, "steer", function);
  return exports;
}
