// One connection: a WebSocket to the gateway and an RFB session (RFC 6143) on it.

import RFB from "./novnc/core/rfb.js";

// From the upgrade to the first frame: the gateway's check and its connect to the ESXi host take up to
// 5 s each, the RFB handshake three round trips more.
const HANDSHAKE_TIMEOUT_MS = 20_000;

const TOKEN_SUBPROTOCOL = "vncgate.token.";

// RFC 6455, 7.1.5: the socket was lost without a Close frame, or the upgrade was refused.
const ABNORMAL_CLOSURE = 1006;

/**
 * Opens the console and resolves when it has ended.
 *
 * The socket is ours, not noVNC's, because noVNC keeps the close code to itself. The token travels as a
 * subprotocol: a URL would be logged.
 *
 * @param {HTMLElement} screen where noVNC puts its canvas
 * @param {string} token
 * @param {AbortSignal} signal closes the console
 * @param {{onConnected: (rfb: RFB) => void, askPassword: () => Promise<string | null>}} handlers
 * @returns {Promise<{code: string, detail: string}>} `code` is one of reasons.js
 */
export function openConsole(screen, token, signal, { onConnected, askPassword }) {
    const socket = new WebSocket(websockifyUrl(), ["binary", TOKEN_SUBPROTOCOL + token]);
    const end = { connected: false, close: null, securityFailure: null, passwordWithheld: false };

    // Before noVNC adds its own listener, so that the code is known when noVNC reports the end.
    socket.addEventListener("close", (event) => { end.close = event; });

    return new Promise((resolve) => {
        const rfb = new RFB(screen, socket);
        const close = () => rfb.disconnect();
        let deadline = setTimeout(close, HANDSHAKE_TIMEOUT_MS);
        signal.addEventListener("abort", close);

        rfb.addEventListener("connect", () => {
            clearTimeout(deadline);
            end.connected = true;
            onConnected(rfb);
        });
        rfb.addEventListener("credentialsrequired", async () => {
            clearTimeout(deadline);
            const password = await askPassword();
            if (password === null) {
                end.passwordWithheld = true;
                close();
                return;
            }
            deadline = setTimeout(close, HANDSHAKE_TIMEOUT_MS);
            rfb.sendCredentials({ password });
        });
        rfb.addEventListener("securityfailure", ({ detail }) => {
            // Some servers end the text with a NUL.
            end.securityFailure = (detail.reason ?? "").replaceAll("\0", "");
        });
        rfb.addEventListener("disconnect", ({ detail }) => {
            clearTimeout(deadline);
            signal.removeEventListener("abort", close);
            resolve(explain(end, detail.clean));
        });
    });
}

// Relative to the page, so that a gateway may serve it below a path prefix.
function websockifyUrl() {
    const url = new URL("websockify", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.hash = "";
    return url;
}

function explain({ connected, close, securityFailure, passwordWithheld }, clean) {
    const detail = close?.reason ?? "";
    if (passwordWithheld) {
        return { code: "password_withheld", detail };
    }
    if (securityFailure !== null) {
        return { code: "password_refused", detail: securityFailure };
    }
    // noVNC gave up while the socket was still open: what came was not RFB.
    if (close === null && !clean) {
        return { code: "protocol_error", detail };
    }
    if (!connected) {
        return { code: "no_answer", detail };
    }
    const code = close?.code === ABNORMAL_CLOSURE ? "connection_lost" : "console_closed";
    return { code, detail };
}
