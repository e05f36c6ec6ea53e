package step

import (
	"time"
	"unsafe"
)

// The canonical ABI of weir:step@1.0.0 by hand. A pointer of WebAssembly has 32 bits and one of Go's has 64, so what the host reads and
// writes is laid out in uint32s, and what they point at is held elsewhere for as long as the host may look.

type (
	addr uint32
	list struct {
		at  addr
		len uint32
	}
	option struct {
		some uint32
		list list
	}
	rawHeader struct{ name, value list }
	rawEvent  struct {
		edge        list
		key         option
		contentType list
		headers     list
		data        list
	}
	rawOutput struct {
		port        list
		key         option
		contentType option
		headers     list
		data        list
	}
	// result<list<output>, failure>; the failure's payload begins at 16.
	rawResult struct {
		isErr   uint32
		_       uint32
		ok      list // or the failure's kind
		payload struct {
			reason list // of reject and fatal; of retry: whether there is a delay
			delay  uint64
			retry  list
		}
	}
)

const slabBytes = 8 << 10

// What the host hands over lies in slabs, which are never used twice: strings and slices of events point into them, and a slab goes
// when the last of these does. pinned are those before the present one while no event points into them yet.
var (
	slab   []byte
	pinned [][]byte
)

// What the last call gave away, until the next one.
var given struct {
	result  rawResult
	raw     []rawOutput
	headers [][]rawHeader
	outputs []Output
	reason  string
}

//go:wasmexport cabi_realloc
func realloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	skip := -len(slab) & int(align-1)
	if len(slab) < cap(slab)-int(size)-skip {
		slab = slab[:len(slab)+skip]
	} else {
		pinned = append(pinned, slab)
		slab = make([]byte, 0, max(slabBytes, int(size)+1))
	}
	at := len(slab)
	slab = slab[:at+int(size)]
	room := unsafe.Pointer(unsafe.SliceData(slab[at : at+int(size) : at+int(size)]))
	if oldSize > 0 {
		copy(slab[at:], unsafe.Slice((*byte)(old), oldSize))
	}
	return room
}

//go:wasmexport handle
func handle(
	tenant addr, tenantLen uint32, graph addr, graphLen uint32, version addr, versionLen uint32,
	execution addr, executionLen uint32, step addr, stepLen uint32,
	attempt uint32, timeUS uint64, input addr, inputLen uint32,
) unsafe.Pointer {
	clockSet(timeUS)
	ctx := Context{
		Tenant:    list{tenant, tenantLen}.text(),
		Graph:     list{graph, graphLen}.text(),
		Version:   list{version, versionLen}.text(),
		Execution: list{execution, executionLen}.text(),
		Step:      list{step, stepLen}.text(),
		Attempt:   attempt,
		Time:      time.UnixMicro(int64(timeUS)).UTC(),
	}
	events := make([]Event, inputLen)
	for i, raw := range items[rawEvent](list{input, inputLen}) {
		events[i] = Event{Edge: raw.edge.text(), ContentType: raw.contentType.text(), Data: raw.data.bytes()}
		if raw.key.some&1 != 0 {
			events[i].Key = raw.key.list.bytes()
		}
		if raw.headers.len > 0 {
			events[i].Headers = make([]Header, raw.headers.len)
			for j, header := range items[rawHeader](raw.headers) {
				events[i].Headers[j] = Header{header.name.text(), header.value.bytes()}
			}
		}
	}
	clear(pinned)
	pinned = pinned[:0]
	outputs, err := handler(ctx, events)
	given.result = rawResult{}
	if err != nil {
		fail(failure(err))
	} else {
		emit(outputs)
	}
	return unsafe.Pointer(&given.result)
}

func emit(outputs []Output) {
	given.outputs = outputs
	given.raw = make([]rawOutput, len(outputs))
	given.headers = given.headers[:0]
	for i, output := range outputs {
		raw := &given.raw[i]
		raw.port = text(output.Port)
		raw.data = slice(output.Data)
		if output.Key != nil {
			raw.key = option{1, slice(output.Key)}
		}
		if output.ContentType != "" {
			raw.contentType = option{1, text(output.ContentType)}
		}
		if len(output.Headers) > 0 {
			headers := make([]rawHeader, len(output.Headers))
			for j, header := range output.Headers {
				headers[j] = rawHeader{text(header.Name), slice(header.Value)}
			}
			given.headers = append(given.headers, headers)
			raw.headers = slice(headers)
		}
	}
	given.result.ok = slice(given.raw)
}

func fail(f Failure) {
	given.reason = f.Error()
	given.result.isErr = 1
	given.result.ok.at = addr(f.kind)
	payload := &given.result.payload
	if f.kind != retry {
		payload.reason = text(given.reason)
		return
	}
	payload.retry = text(given.reason)
	if f.delay != nil {
		payload.reason.at = 1
		payload.delay = uint64(max(0, f.delay.Milliseconds()))
	}
}

func (l list) pointer() unsafe.Pointer { return unsafe.Add(unsafe.Pointer(nil), l.at) }

func (l list) bytes() []byte { return unsafe.Slice((*byte)(l.pointer()), l.len)[:l.len:l.len] }

func (l list) text() string { return unsafe.String((*byte)(l.pointer()), l.len) }

func items[T any](l list) []T { return unsafe.Slice((*T)(l.pointer()), l.len) }

func slice[T any](items []T) list {
	return list{addr(uintptr(unsafe.Pointer(unsafe.SliceData(items)))), uint32(len(items))}
}

func text(s string) list {
	return list{addr(uintptr(unsafe.Pointer(unsafe.StringData(s)))), uint32(len(s))}
}

// `weir build` answers it, with all of WASI 0.1: the time that time.Now shows from here on.
//
//go:wasmimport wasi_snapshot_preview1 weir_clock_set
func clockSet(us uint64)

//go:wasmimport weir:step/settings@1.0.0 get
func importSettings(to unsafe.Pointer)

var got list

func settings() string {
	importSettings(unsafe.Pointer(&got))
	return got.text()
}
