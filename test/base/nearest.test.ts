/** What is asked with "did you mean", and what is too far for it. */
import { describe, expect, it } from 'vitest';
import { nearest } from '../../src/base/nearest.js';

describe('the nearest word', () => {
  it.each([
    ['stauts', ['status', 'demo'], 'status', true],
    ['--confg', ['--config', '--stats'], '--config', true],
    ['tpc', ['tcp', 'udp'], 'tcp', true],
    ['ucp', ['tcp', 'udp'], 'tcp', true],
    ['foo', ['nic', 'pool'], 'pool', false],
    ['start', ['status', 'lease'], 'status', false],
    ['list', ['lease', 'ls'], 'ls', false],
  ])('to %s among %j is %s (close: %s)', (word, known, best, isClose) => {
    expect(nearest(word, known)).toEqual({ best, isClose });
  });

  it('is none where none is known', () => {
    expect(nearest('a', [])).toEqual({ best: '', isClose: false });
  });
});
