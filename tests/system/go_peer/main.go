// A participant on LiveKit's Go SDK: publishes Opus frames of a file again and again, and
// listens to the phone's G.711. It prints JSON lines; the line "measure" on its standard
// input begins a measurement, "report" prints it, the end of the input ends the program.
//
// usage: go-peer URL TOKEN OPUS_FILE (packets, each after its length in two octets)
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/livekit/protocol/livekit"
	protoLogger "github.com/livekit/protocol/logger"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
)

const frame = 20 * time.Millisecond

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(url, token, file string) error {
	packets, err := load(file)
	if err != nil {
		return err
	}
	protoLogger.InitFromConfig(&protoLogger.Config{Level: "warn"}, "go-peer")
	lksdk.SetLogger(protoLogger.GetLogger())
	phone := &ear{}
	room, err := lksdk.ConnectToRoomWithToken(url, token, &lksdk.RoomCallback{
		ParticipantCallback: lksdk.ParticipantCallback{OnTrackSubscribed: phone.listen},
	})
	if err != nil {
		return err
	}
	defer room.Disconnect()
	track, err := lksdk.NewLocalTrack(webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2,
	})
	if err != nil {
		return err
	}
	options := &lksdk.TrackPublicationOptions{
		Name: "agent-voice", Source: livekit.TrackSource_MICROPHONE, DisableDTX: true,
	}
	if _, err = room.LocalParticipant.PublishTrack(track, options); err != nil {
		return err
	}
	go speak(track, packets)
	say("joined", map[string]any{})
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		switch commands.Text() {
		case "measure":
			phone.measure()
			say("measuring", map[string]any{})
		case "report":
			say("sound", phone.report())
		}
	}
	return nil
}

func say(what string, fields map[string]any) {
	fields["saw"] = what
	line, _ := json.Marshal(fields)
	fmt.Println(string(line))
}

func load(file string) ([][]byte, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var packets [][]byte
	for reader := bufio.NewReader(in); ; {
		var size uint16
		if err := binary.Read(reader, binary.BigEndian, &size); err == io.EOF {
			return packets, nil
		} else if err != nil {
			return nil, err
		}
		packet := make([]byte, size)
		if _, err := io.ReadFull(reader, packet); err != nil {
			return nil, err
		}
		packets = append(packets, packet)
	}
}

func speak(track *lksdk.LocalTrack, packets [][]byte) {
	next := time.Now()
	for at := 0; ; at = (at + 1) % len(packets) {
		_ = track.WriteSample(media.Sample{Data: packets[at], Duration: frame}, nil)
		next = next.Add(frame)
		time.Sleep(time.Until(next))
	}
}

// ear is what the phone's track brings.
type ear struct {
	sync.Mutex
	meter    meter
	packets  int
	lost     int
	late     time.Duration // the longest between two packets
	sequence uint16
	arrived  time.Time
}

func (e *ear) measure() {
	e.Lock()
	defer e.Unlock()
	e.meter, e.packets, e.lost, e.late = meter{}, 0, 0, 0
}

func (e *ear) report() map[string]any {
	e.Lock()
	defer e.Unlock()
	fields := e.meter.report()
	fields["packets"], fields["lost"], fields["late_ms"] = e.packets, e.lost, e.late.Milliseconds()
	return fields
}

func (e *ear) listen(track *webrtc.TrackRemote, _ *lksdk.RemoteTrackPublication, who *lksdk.RemoteParticipant) {
	codec := track.Codec().MimeType
	if track.Kind() != webrtc.RTPCodecTypeAudio {
		return
	}
	say("subscribed", map[string]any{"codec": codec, "identity": who.Identity()})
	for {
		packet, _, err := track.ReadRTP()
		if err != nil {
			return
		}
		e.take(codec, packet.SequenceNumber, packet.Payload)
	}
}

// take hears the next packet; what was lost before it is silence.
func (e *ear) take(codec string, sequence uint16, payload []byte) {
	now := time.Now()
	e.Lock()
	defer e.Unlock()
	missing := sequence - e.sequence - 1
	known := !e.arrived.IsZero()
	if known && missing >= 0x8000 {
		return // late, or twice
	}
	if known && e.packets > 0 {
		e.late = max(e.late, now.Sub(e.arrived))
		e.lost += int(missing)
		for range int(missing) * len(payload) {
			e.meter.hear(0)
		}
	}
	e.packets++
	e.sequence, e.arrived = sequence, now
	if codec != webrtc.MimeTypePCMU && codec != webrtc.MimeTypePCMA {
		return
	}
	for _, code := range payload {
		e.meter.hear(linear(code, codec == webrtc.MimeTypePCMA))
	}
}
