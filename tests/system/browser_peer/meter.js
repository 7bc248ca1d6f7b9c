// Judges a tone as the browser plays it: how loud, and the longest stretch without it.

const AUDIBLE = 1000 / 32768; // RMS

class Meter extends AudioWorkletProcessor {
  constructor() {
    super();
    this.begin();
    this.port.onmessage = ({ data }) => (data === "measure" ? this.begin() : this.tell());
  }

  begin() {
    this.samples = this.energy = this.quiet = this.longest = 0;
    this.sounded = false;
  }

  process([input]) {
    const samples = input[0] ?? new Float32Array(128);
    const energy = samples.reduce((sum, one) => sum + one * one, 0);
    if (Math.sqrt(energy / samples.length) >= AUDIBLE) {
      if (this.sounded) this.longest = Math.max(this.longest, this.quiet);
      this.quiet = 0;
      this.sounded = true;
    } else {
      this.quiet += samples.length;
    }
    if (this.sounded) {
      this.samples += samples.length;
      this.energy += energy;
    }
    return true;
  }

  tell() {
    const level = Math.sqrt(this.energy / Math.max(1, this.samples));
    this.port.postMessage({
      seconds: this.samples / sampleRate,
      dbov: 20 * Math.log10(Math.max(level, 1e-7)),
      gap_ms: (1000 * this.longest) / sampleRate,
    });
  }
}

registerProcessor("meter", Meter);
