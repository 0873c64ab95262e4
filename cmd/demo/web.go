package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// reachedHeader is where the web server says by which address it was reached.
const reachedHeader = "Reached"

// webMain is every web server of the Internet: one that answers at all
// addresses of its side.
func webMain([]string) error {
	server := &http.Server{Handler: http.HandlerFunc(page), ReadHeaderTimeout: 5 * time.Second}
	for _, network := range []string{"tcp4", "tcp6"} {
		listener, err := net.Listen(network, ":80")
		if err != nil {
			return err
		}
		go func() {
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(failed)
			}
		}()
	}
	if err := become(helperUID); err != nil {
		return err
	}
	return sayReady()
}

func page(w http.ResponseWriter, r *http.Request) {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok {
		http.Error(w, "reached by no TCP address", http.StatusInternalServerError)
		return
	}
	w.Header().Set(reachedHeader, local.AddrPort().Addr().Unmap().String())
	fmt.Fprintf(w, "this is %q\n", r.Host)
}
