"""An HTTPS provider with a certificate of its own authority. Arguments: where to write the authority's certificate.

Prints its port; answers every POST with a chat completion that says which credential it was sent.
"""

import http.server
import json
import ssl
import sys

import trustme

authority = trustme.CA()
authority.cert_pem.write_to_path(sys.argv[1])


class Provider(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        said = f"credential: {self.headers['authorization']}, key: {self.headers['x-api-key']}"
        message = {"role": "assistant", "content": said}
        answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m",
                  "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
authority.issue_cert("127.0.0.1").configure_cert(context)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
