/** What the engine remembers and counts of a guest that leaves: nothing of it may reach the next one on the same link. */
import { expect, it } from 'vitest';
import { Counters, EGRESS } from '../../src/dataplane/counters.js';
import { DISCARD, FrameBatch, TO_NIC } from '../../src/dataplane/frame-batch.js';
import { Memory, packDecision } from '../../src/dataplane/memory.js';
import { FORGOTTEN } from '../../src/dataplane/recent.js';
import { FrameSlots } from '../../src/io/frame-io.js';

it('fragments, echoes and datagrams of the link are forgotten, those of others are not', () => {
  const memory = new Memory();
  for (const link of [4, 5]) {
    memory.fragments.put(1, 2, link, packDecision(1 + link, 0), 100);
    memory.sentFragments.put(1, 2, link, 1 + link, 100);
    memory.echoes.put(1, 2, link, 1 + link, 100);
  }
  memory.fragments.put(1, 2, 9, packDecision(DISCARD, 1), 100);
  memory.forgetLink(4);
  const found = [4, 5, 9].map((key) => [memory.fragments, memory.sentFragments, memory.echoes].map((recent) => recent.find(1, 2, key, 100)));
  expect(found[0]).toEqual([FORGOTTEN, FORGOTTEN, FORGOTTEN]);
  expect(found[1]).toEqual([packDecision(6, 0), 6, 6]);
  expect(found[2][0]).toBe(packDecision(DISCARD, 1));
});

it('the link counts from nothing again; totals and other links go on', () => {
  const counters = new Counters(3);
  const batch = new FrameBatch(new FrameSlots(4));
  batch.slots.count = 2;
  batch.verdict.fill(TO_NIC);
  batch.slots.wireLength.fill(60);
  for (const link of [1, 2]) counters.count(batch, EGRESS, link);
  counters.reset(1);
  const { egress, guests } = counters.read([2, 1]);
  expect(egress.forwarded).toEqual({ frames: 4, bytes: 240 });
  expect(guests.map((guest) => guest.egress.frames)).toEqual([2, 0]);
});
