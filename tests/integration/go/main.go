// main is a server and a client for the integration tests: static, no libc, Go's own resolver,
// netpoller and signal-based preemption.
//
//	gotest serve ADDR...            HTTP on every address until SIGTERM
//	gotest get URL N CONC KEEP      N requests, CONC at a time; "ok N CONNECTIONS"
//	gotest tcp ADDR N               N raw connections with half close; "ok N"
//	gotest preempt ADDR             connects while busy goroutines are preempted (SIGURG)
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func die(format string, a ...any) {
	fmt.Printf("FAIL: "+format+"\n", a...)
	os.Exit(1)
}

func body(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + n)
	}
	return b
}

func serve(addrs []string) {
	mux := http.NewServeMux()
	mux.HandleFunc("/who", func(w http.ResponseWriter, r *http.Request) {
		local := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		fmt.Fprintf(w, "%s %s\n", r.RemoteAddr, local)
	})
	mux.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		w.Write(body(n))
	})
	mux.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		io.Copy(h, r.Body)
		fmt.Fprintf(w, "%x", h.Sum(nil))
	})
	var servers []*http.Server
	for _, a := range addrs {
		l, err := net.Listen("tcp", a)
		if err != nil {
			die("listen %s: %v", a, err)
		}
		s := &http.Server{Handler: mux}
		servers = append(servers, s)
		go s.Serve(l)
		fmt.Println("listening", l.Addr())
	}
	// A raw echo that closes its side only after the client has closed its own.
	l, err := net.Listen("tcp", ":7")
	if err != nil {
		die("listen: %v", err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				b, err := io.ReadAll(c)
				if err == nil {
					c.Write(b)
				}
				c.Close()
			}()
		}
	}()
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGTERM)
	<-ch
	for _, s := range servers {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if err := s.Shutdown(ctx); err != nil {
			die("shutdown: %v", err)
		}
		cancel()
	}
	l.Close()
	fmt.Println("bye")
}

func get(url string, n, conc int, keep bool) {
	tr := &http.Transport{MaxIdleConnsPerHost: conc, DisableKeepAlives: !keep}
	cl := &http.Client{Transport: tr, Timeout: 30 * time.Second}
	var conns, next int64
	var wg sync.WaitGroup
	for i := 0; i < conc; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				k := atomic.AddInt64(&next, 1)
				if k > int64(n) {
					return
				}
				size := int(k*977) % 70000
				trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
					if !i.Reused {
						atomic.AddInt64(&conns, 1)
					}
				}}
				req, _ := http.NewRequestWithContext(
					httptrace.WithClientTrace(context.Background(), trace),
					"GET", fmt.Sprintf("%s/bytes?n=%d", url, size), nil)
				r, err := cl.Do(req)
				if err != nil {
					die("get %d: %v", k, err)
				}
				b, err := io.ReadAll(r.Body)
				r.Body.Close()
				if err != nil || !bytes.Equal(b, body(size)) {
					die("get %d: %d of %d bytes, %v", k, len(b), size, err)
				}
			}
		}()
	}
	wg.Wait()
	big := body(3000000)
	r, err := cl.Post(url+"/sum", "application/octet-stream", bytes.NewReader(big))
	if err != nil {
		die("post: %v", err)
	}
	b, _ := io.ReadAll(r.Body)
	r.Body.Close()
	if string(b) != fmt.Sprintf("%x", sha256.Sum256(big)) {
		die("post: wrong sum")
	}
	fmt.Printf("ok %d %d\n", n, conns)
}

func one(addr string, b []byte) error {
	c, err := net.DialTimeout("tcp", addr, 20*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	t := c.(*net.TCPConn)
	if err := t.SetNoDelay(true); err != nil {
		return err
	}
	if err := t.SetKeepAlivePeriod(15 * time.Second); err != nil {
		return err
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write(b); err != nil {
		return err
	}
	if err := t.CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, b) {
		return fmt.Errorf("%d of %d bytes", len(got), len(b))
	}
	return nil
}

func tcp(addr string, n int) {
	for i := 0; i < n; i++ {
		if err := one(addr, body(i*131%50000)); err != nil {
			die("connection %d: %v", i, err)
		}
	}
	fmt.Println("ok", n)
}

func preempt(addr string) {
	// Never yields by itself: the runtime preempts it with SIGURG every 10 ms.
	for i := 0; i < runtime.GOMAXPROCS(0)+1; i++ {
		go func() {
			for x := uint64(1); ; {
				x = x*6364136223846793005 + 1
			}
		}()
	}
	var wg sync.WaitGroup
	var n int64
	end := time.Now().Add(3 * time.Second)
	for i := 0; i < 4; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for time.Now().Before(end) {
				if err := one(addr, []byte("x")); err != nil {
					die("after %d: %v", n, err)
				}
				atomic.AddInt64(&n, 1)
			}
		}()
	}
	// A listener of its own, accepted from by the same process.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		die("listen: %v", err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				die("accept: %v", err)
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	for time.Now().Before(end) {
		if err := one(l.Addr().String(), []byte("y")); err != nil {
			die("own listener: %v", err)
		}
		atomic.AddInt64(&n, 1)
	}
	wg.Wait()
	fmt.Println("ok", n)
}

func main() {
	a := os.Args
	switch a[1] {
	case "serve":
		serve(a[2:])
	case "get":
		n, _ := strconv.Atoi(a[3])
		c, _ := strconv.Atoi(a[4])
		get(a[2], n, c, a[5] == "keep")
	case "tcp":
		n, _ := strconv.Atoi(a[3])
		tcp(a[2], n)
	case "preempt":
		preempt(a[2])
	}
}
