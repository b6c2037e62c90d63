// A console session as the person sees it: check, connect, and connect again after a drop.

import { browserSubprotocol } from "./browser.js";
import { originRefusal } from "./origin.js";
import { reasonOf } from "./reasons.js";
import { askStatus } from "./status.js";
import { pause } from "./wait.js";

/**
 * @typedef {import("./novnc/core/rfb.js").default} RFB
 * @typedef {import("./reasons.js").End} End
 * @typedef {import("./reasons.js").Reason} Reason
 * @typedef {import("./status.js").Vm} Vm
 * @typedef {{seconds: number, attempt: number, of: number}} Retry
 *
 * What the page is to show. `opened`: this session has shown the console before.
 * @typedef {{vm: Vm | null, opened: boolean} & Phase} State
 * @typedef {{phase: "connecting"} | {phase: "connected", rfb: RFB, since: Date} |
 *           {phase: "waiting", reason: Reason, retry: Retry} | {phase: "ended", reason: Reason}} Phase
 */

// Seconds before each automatic attempt: a minute in all, enough for a restart of the machine or of the
// gateway; then the person decides.
const RETRY_DELAYS_S = [1, 2, 4, 8, 15, 30];

// A console that stayed open this long earns a fresh set of attempts. One that drops at once does not,
// or two would take it from each other for ever.
const STABLE_MS = 10_000;

/** @type {End} */
const CLOSED_BY_USER = { code: "closed_by_user", detail: "" };

/** @type {End} */
const NO_ANSWER = { code: "no_answer", detail: "" };

/**
 * Keeps the console open until it ends for good or `signal` is aborted.
 *
 * @param {string | null} token
 * @param {HTMLElement} screen
 * @param {AbortSignal} signal
 * @param {(state: State) => void} show gets each new state
 */
export async function runSession(token, screen, signal, show) {
    /** @type {Vm | null} */
    let vm = null;
    let opened = false;
    let openedAt = Infinity;
    let attempt = 0;
    /** @param {Phase} phase */
    const tell = (phase) => show({ vm, opened, ...phase });

    while (true) {
        tell({ phase: "connecting" });
        const end = await connect();
        const reason = reasonOf(signal.aborted ? endedByUser() : end);

        if (reason.retry !== "auto" || attempt === RETRY_DELAYS_S.length) {
            tell({ phase: "ended", reason });
            return;
        }
        const seconds = RETRY_DELAYS_S[attempt];
        attempt += 1;
        tell({ phase: "waiting", reason, retry: { seconds, attempt, of: RETRY_DELAYS_S.length } });
        await pause(seconds * 1000, signal, true);
    }

    /**
     * One attempt.
     *
     * @returns {Promise<End>} the reason why there is no console, or no longer
     */
    async function connect() {
        if (token === null) {
            return { code: "no_token", detail: "" };
        }
        const refused = await checkToken(token);
        if (refused) {
            return refused;
        }
        // With noVNC, for which the page does not wait before it shows anything.
        const connection = await import("./connection.js").catch((error) => String(error));
        if (typeof connection === "string") {
            return { code: "page_not_started", detail: connection };
        }
        if (signal.aborted) {
            return CLOSED_BY_USER;
        }
        tell({ phase: "connecting" });
        const subprotocols = [];
        if (vm?.tokenUse === "same-browser") {
            const subprotocol = await browserSubprotocol(vm.bound);
            if (subprotocol === null) {
                return { code: "page_not_encrypted", detail: "" };
            }
            subprotocols.push(subprotocol);
        }
        openedAt = Infinity;
        const end = await connection.openConsole(screen, token, subprotocols, signal, onConnected);
        if (performance.now() - openedAt >= STABLE_MS) {
            attempt = 0;
        }
        // Only the authority knows whether the machine was powered off, moved, or the link ran out.
        const refusal = await checkToken(token);
        if (end.ordered) {
            return { ...end, final: refusal?.code === "token_invalid", open: refusal === null };
        }
        if (refusal?.code === "token_invalid" && vm?.singleUse) {
            return { code: "link_used_up", detail: end.code };
        }
        if (refusal) {
            return refusal;
        }
        if (end.code !== "not_upgraded") {
            return end;
        }
        // The filter's refusals do not pass through the authority. The page can find out this one alone; where a
        // console has opened before, it is another.
        return (opened ? null : originRefusal(vm?.origin)) ?? NO_ANSWER;
    }

    function endedByUser() {
        const { code } = CLOSED_BY_USER;
        return opened && vm?.singleUse ? { code: "link_used_up", detail: code } : CLOSED_BY_USER;
    }

    /**
     * @param {string} known the token
     * @returns {Promise<End | null>} the authority's refusal, if it refuses
     */
    async function checkToken(known) {
        const status = await askStatus(known, signal);
        if ("vm" in status) {
            vm = status.vm;
            return null;
        }
        if (vm) {
            vm = { ...vm, powerState: null }; // as it was before
        }
        return status.refusal;
    }

    /** @param {RFB} rfb */
    function onConnected(rfb) {
        openedAt = performance.now();
        opened = true;
        tell({ phase: "connected", rfb, since: new Date() });
    }
}
