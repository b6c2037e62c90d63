// A console session as the person sees it: check, connect, and connect again after a drop.

import { openConsole } from "./connection.js";
import { reasonOf } from "./reasons.js";
import { askStatus } from "./status.js";

// Seconds before each automatic attempt: a minute in all, enough for a restart of the machine or of the
// gateway; then the person decides.
const RETRY_DELAYS_S = [1, 2, 4, 8, 15, 30];

// A console that stayed open this long earns a fresh set of attempts. One that drops at once does not,
// or two would take it from each other for ever.
const STABLE_MS = 10_000;

/**
 * Keeps the console open until it ends for good or `signal` is aborted.
 *
 * @param {string | null} token
 * @param {HTMLElement} screen
 * @param {AbortSignal} signal
 * @param {(state: object) => void} show gets each new state:
 *     `{phase: "connecting"}`, `{phase: "connected", rfb}`, `{phase: "waiting", reason, retry}`,
 *     `{phase: "ended", reason}`; `vm` is in it once it is known, and `opened` tells whether this
 *     session has shown the console before.
 */
export async function runSession(token, screen, signal, show) {
    let vm = null;
    let opened = false;
    let openedAt = Infinity;
    let attempt = 0;
    const tell = (state) => show({ vm, opened, ...state });

    while (true) {
        tell({ phase: "connecting" });
        const end = await connect();
        const reason = reasonOf(signal.aborted ? { code: "closed_by_user", detail: "" } : end);

        if (reason.retry !== "auto" || attempt === RETRY_DELAYS_S.length) {
            tell({ phase: "ended", reason });
            return;
        }
        const seconds = RETRY_DELAYS_S[attempt];
        attempt += 1;
        tell({ phase: "waiting", reason, retry: { seconds, attempt, of: RETRY_DELAYS_S.length } });
        await delay(seconds * 1000, signal);
    }

    // One attempt. Resolves with the reason why there is no console, or no longer.
    async function connect() {
        if (token === null) {
            return { code: "no_token", detail: "" };
        }
        const refused = await checkToken();
        if (refused || signal.aborted) {
            return refused;
        }
        tell({ phase: "connecting" });
        openedAt = Infinity;
        const end = await openConsole(screen, token, signal, onConnected);
        if (performance.now() - openedAt >= STABLE_MS) {
            attempt = 0;
        }
        // Only the authority knows whether the machine was powered off, moved, or the link ran out.
        return await checkToken() ?? end;
    }

    // Resolves with the authority's refusal, if it refuses.
    async function checkToken() {
        const status = await askStatus(token, signal);
        if (status.vm) {
            vm = status.vm;
        } else if (vm) {
            vm = { ...vm, powerState: null }; // as it was before
        }
        return status.refusal;
    }

    function onConnected(rfb) {
        openedAt = performance.now();
        opened = true;
        tell({ phase: "connected", rfb });
    }
}

function delay(ms, signal) {
    return new Promise((resolve) => {
        const timer = setTimeout(resolve, ms);
        signal.addEventListener("abort", () => {
            clearTimeout(timer);
            resolve();
        }, { once: true });
    });
}
