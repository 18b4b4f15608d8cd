// Exchanges bytes both ways at once over TLS by Go's crypto/tls; the protocol is told in tests/src/exchange.
//
//	exchange client ADDRESS NAME AUTHORITY [ALPN,…]   plans on standard input, one a line: seed up down closing
//	exchange server ADDRESS CERTIFICATE KEY           says "listening PORT" first
//
// Either says a line for each connection: its seed, then "ok" or what went wrong.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// When an end stops sending; numbers are those of the header.
const (
	clientFirst     = 1
	serverFirst     = 2
	serverAfterAll  = 3
	clientAfterAll  = 4
	block           = 64 * 1024
	limit           = 120 * time.Second
	connectionsOnce = 16
)

type plan struct{ seed, up, down, closing uint64 }

func word(seed, index uint64) uint64 {
	z := seed + (index+1)*0x9e3779b97f4a7c15
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

// fill writes the bytes that begin at an offset of what a seed makes.
func fill(to []byte, seed, offset uint64) {
	for index := range to {
		at := offset + uint64(index)
		if at%8 == 0 && index+8 <= len(to) {
			break
		}
		to[index] = byte(word(seed, at/8) >> (8 * (at % 8)))
	}
	start := int((8 - offset%8) % 8)
	for ; start+8 <= len(to); start += 8 {
		binary.LittleEndian.PutUint64(to[start:], word(seed, (offset+uint64(start))/8))
	}
	for ; start < len(to); start++ {
		at := offset + uint64(start)
		to[start] = byte(word(seed, at/8) >> (8 * (at % 8)))
	}
}

func send(connection *tls.Conn, seed, length uint64) error {
	buffer := make([]byte, block)
	for offset := uint64(0); offset < length; {
		// Pieces of all sizes, from one byte to a block.
		size := 1 + word(seed, ^offset)%(1<<(word(seed, offset)%17))
		piece := buffer[:min(size, block, length-offset)]
		fill(piece, seed, offset)
		if _, err := connection.Write(piece); err != nil {
			return fmt.Errorf("sending after %d of %d bytes: %w", offset, length, err)
		}
		offset += uint64(len(piece))
	}
	return nil
}

// receive holds what comes against what a seed makes, to the end, and tells when all of it is there.
func receive(connection *tls.Conn, seed, length uint64, all, end chan struct{}) error {
	defer close(end)
	announce := sync.OnceFunc(func() { close(all) })
	defer announce()
	buffer, want := make([]byte, block), make([]byte, block)
	for offset := uint64(0); ; {
		if offset == length {
			announce()
		}
		count, err := connection.Read(buffer)
		fill(want[:count], seed, offset)
		if offset+uint64(count) > length || !bytes.Equal(buffer[:count], want[:count]) {
			return fmt.Errorf("other bytes than were sent behind byte %d of %d", offset, length)
		}
		offset += uint64(count)
		if err == io.EOF && offset == length {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receiving after %d of %d bytes: %w", offset, length, err)
		}
	}
}

func exchange(connection *tls.Conn, p plan, isClient bool) error {
	mine, others, out, in := p.seed, ^p.seed, p.up, p.down
	waitsForEnd, waitsForAll := p.closing == serverFirst || p.closing == serverAfterAll, p.closing == clientAfterAll
	if !isClient {
		mine, others, out, in = others, mine, in, out
		waitsForEnd, waitsForAll = p.closing == clientFirst || p.closing == clientAfterAll, p.closing == serverAfterAll
	}
	all, end, sent := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		err := send(connection, mine, out)
		if err == nil {
			if waitsForEnd {
				<-end
			}
			if waitsForAll {
				<-all
			}
			err = connection.CloseWrite()
		}
		sent <- err
	}()
	received := receive(connection, others, in, all, end)
	if err := <-sent; err != nil {
		return err
	}
	return received
}

func say(seed uint64, err error) {
	if err == nil {
		fmt.Printf("%d ok\n", seed)
	} else {
		fmt.Printf("%d %s\n", seed, strings.ReplaceAll(err.Error(), "\n", " "))
	}
}

func call(address string, config *tls.Config, p plan) error {
	dialer := net.Dialer{Timeout: limit}
	connection, err := tls.DialWithDialer(&dialer, "tcp", address, config)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(limit))
	header := make([]byte, 32)
	for index, number := range []uint64{p.seed, p.up, p.down, p.closing} {
		binary.BigEndian.PutUint64(header[8*index:], number)
	}
	if _, err := connection.Write(header); err != nil {
		return fmt.Errorf("sending the header: %w", err)
	}
	return exchange(connection, p, true)
}

func client(address, name, authority string, protocols []string) {
	pem, err := os.ReadFile(authority)
	must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	config := &tls.Config{RootCAs: roots, ServerName: name, NextProtos: protocols}
	places, waiting := make(chan struct{}, connectionsOnce), sync.WaitGroup{}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var p plan
		_, err := fmt.Sscan(lines.Text(), &p.seed, &p.up, &p.down, &p.closing)
		must(err)
		places <- struct{}{}
		waiting.Go(func() {
			say(p.seed, call(address, config, p))
			<-places
		})
	}
	waiting.Wait()
}

func answer(connection *tls.Conn) {
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(limit))
	header := make([]byte, 32)
	if _, err := io.ReadFull(connection, header); err != nil {
		say(0, fmt.Errorf("receiving a header: %w", err))
		return
	}
	number := func(index int) uint64 { return binary.BigEndian.Uint64(header[8*index:]) }
	p := plan{number(0), number(1), number(2), number(3)}
	say(p.seed, exchange(connection, p, false))
}

func server(address, certificate, key string) {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	must(err)
	listener, err := tls.Listen("tcp", address, &tls.Config{Certificates: []tls.Certificate{pair}})
	must(err)
	fmt.Printf("listening %d\n", listener.Addr().(*net.TCPAddr).Port)
	for {
		connection, err := listener.Accept()
		must(err)
		go answer(connection.(*tls.Conn))
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	words := os.Args[1:]
	switch {
	case len(words) >= 4 && words[0] == "client":
		var protocols []string
		if len(words) > 4 {
			protocols = strings.Split(words[4], ",")
		}
		client(words[1], words[2], words[3], protocols)
	case len(words) == 4 && words[0] == "server":
		server(words[1], words[2], words[3])
	default:
		must(fmt.Errorf("exchange client ADDRESS NAME AUTHORITY [ALPN,…] | exchange server ADDRESS CERTIFICATE KEY"))
	}
}
