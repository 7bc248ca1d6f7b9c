// A participant on livekit-client: says a tone, listens to the phone by WebAudio.

const peer = { codec: "", identity: "" };

peer.join = async (url, token, hertz, level) => {
  peer.audio = new AudioContext();
  await peer.audio.resume();
  await peer.audio.audioWorklet.addModule("meter.js");
  peer.room = new LivekitClient.Room();
  peer.room.on("trackSubscribed", (track, _publication, who) => {
    if (track.kind === "audio") listen(track, who);
  });
  await peer.room.connect(url, token);
  await peer.room.localParticipant.publishTrack(voice(hertz, level), {
    name: "agent-voice",
    source: LivekitClient.Track.Source.Microphone,
  });
  return peer.audio.state;
};

function voice(hertz, level) {
  const tone = new OscillatorNode(peer.audio, { frequency: hertz });
  const volume = new GainNode(peer.audio, { gain: level });
  const out = new MediaStreamAudioDestinationNode(peer.audio, { channelCount: 1 });
  tone.connect(volume).connect(out);
  tone.start();
  return out.stream.getAudioTracks()[0];
}

function listen(track, who) {
  const element = track.attach(); // what plays nowhere is not decoded
  element.muted = true;
  document.body.append(element);
  const source = peer.audio.createMediaStreamSource(new MediaStream([track.mediaStreamTrack]));
  peer.meter = new AudioWorkletNode(peer.audio, "meter");
  peer.analyser = new AnalyserNode(peer.audio, { fftSize: 8192, smoothingTimeConstant: 0 });
  source.connect(peer.analyser);
  const nothing = new GainNode(peer.audio, { gain: 0 });
  source.connect(peer.meter).connect(nothing).connect(peer.audio.destination);
  peer.track = track;
  peer.identity = who.identity;
}

peer.measure = () => peer.meter.port.postMessage("measure");

peer.report = async () => {
  const told = new Promise((done) => (peer.meter.port.onmessage = ({ data }) => done(data)));
  peer.meter.port.postMessage("report");
  return { ...(await told), hertz: loudest(), codec: await codec() };
};

function loudest() {
  const bins = new Float32Array(peer.analyser.frequencyBinCount);
  peer.analyser.getFloatFrequencyData(bins);
  const at = bins.reduce((best, level, bin) => (level > bins[best] ? bin : best), 0);
  return (at * peer.audio.sampleRate) / peer.analyser.fftSize;
}

async function codec() {
  const stats = await peer.track.receiver.getStats();
  const all = [...stats.values()];
  const inbound = all.find((one) => one.type === "inbound-rtp");
  return all.find((one) => one.id === inbound?.codecId)?.mimeType ?? "";
}
