package main

import "math"

const (
	rate    = 8000  // Hz
	block   = 80    // samples, 10 ms
	audible = 1000. // RMS of 16-bit samples
)

// linear returns the 16-bit sample of one octet of G.711.
func linear(code byte, alaw bool) int {
	if alaw {
		code ^= 0x55
		value := int(code&0x0f)<<4 + 8
		if segment := (code & 0x70) >> 4; segment > 0 {
			value = (value + 0x100) << (segment - 1)
		}
		if code&0x80 != 0 {
			return value
		}
		return -value
	}
	code = ^code
	value := (int(code&0x0f)<<3+0x84)<<((code&0x70)>>4) - 0x84
	if code&0x80 != 0 {
		return -value
	}
	return value
}

// meter judges a tone: how high, how loud, and the longest stretch without it.
type meter struct {
	samples   int
	crossings int
	energy    float64
	last      int
	inBlock   int
	ofBlock   float64
	quiet     int // blocks, up to now
	longest   int // blocks, between sound and sound
	sounded   bool
}

func (m *meter) hear(sample int) {
	m.ofBlock += float64(sample * sample)
	if m.inBlock++; m.inBlock == block {
		m.endBlock()
	}
	if !m.sounded {
		return
	}
	if (sample < 0) != (m.last < 0) {
		m.crossings++
	}
	m.last = sample
	m.samples++
	m.energy += float64(sample * sample)
}

func (m *meter) endBlock() {
	loud := math.Sqrt(m.ofBlock/block) >= audible
	m.inBlock, m.ofBlock = 0, 0
	if !loud {
		m.quiet++
		return
	}
	if m.sounded && m.quiet > m.longest {
		m.longest = m.quiet
	}
	m.quiet, m.sounded = 0, true
}

// report returns seconds, Hz, dB below full scale, and milliseconds.
func (m *meter) report() map[string]any {
	if m.samples == 0 {
		return map[string]any{"seconds": 0., "hertz": 0., "dbov": -127., "gap_ms": 0}
	}
	seconds := float64(m.samples) / rate
	level := math.Sqrt(m.energy/float64(m.samples)) / 32768
	return map[string]any{
		"seconds": seconds,
		"hertz":   float64(m.crossings) / 2 / seconds,
		"dbov":    20 * math.Log10(math.Max(level, 1e-7)),
		"gap_ms":  m.longest * 1000 * block / rate,
	}
}
