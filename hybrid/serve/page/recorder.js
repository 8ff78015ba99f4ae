// Hands on what the microphone gives, a tenth of a second at a time.
class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(Math.round(sampleRate / 10));
    this.filled = 0;
  }

  process([input]) {
    const heard = input[0];
    if (!heard) return true;
    let taken = 0;
    while (taken < heard.length) {
      const count = Math.min(heard.length - taken, this.block.length - this.filled);
      this.block.set(heard.subarray(taken, taken + count), this.filled);
      this.filled += count;
      taken += count;
      if (this.filled === this.block.length) {
        this.port.postMessage(this.block.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
