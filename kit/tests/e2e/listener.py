"""Accept connections on a port and close them. Runs in a pod."""

import socket
import sys

if __name__ == "__main__":
    with socket.create_server(("", int(sys.argv[1]))) as server:
        while True:
            server.accept()[0].close()
