// Waiting, until it is over or no longer wanted. A browser lets the timers of a page that is not seen run late, by a
// minute or more, and stops those of a page that it freezes.

/**
 * @param {number} ms
 * @param {AbortSignal} signal ends the pause early
 * @param {boolean} [endsAtReturn] whether it ends early too when the person, or the network, comes back
 * @returns {Promise<void>}
 */
export function pause(ms, signal, endsAtReturn = false) {
    return new Promise((resolve) => {
        const timer = setTimeout(end, ms);
        const forget = endsAtReturn ? onReturn(end) : () => {};
        signal.addEventListener("abort", end);
        if (signal.aborted) {
            end();
        }
        function end() {
            clearTimeout(timer);
            forget();
            signal.removeEventListener("abort", end);
            resolve();
        }
    });
}

/**
 * Resolves at once when the page is seen, else when it is.
 *
 * @param {AbortSignal} signal resolves it early
 * @returns {Promise<void>}
 */
export function untilVisible(signal) {
    return new Promise((resolve) => {
        const look = () => {
            if (signal.aborted || document.visibilityState === "visible") {
                document.removeEventListener("visibilitychange", look);
                signal.removeEventListener("abort", look);
                resolve();
            }
        };
        document.addEventListener("visibilitychange", look);
        signal.addEventListener("abort", look);
        look();
    });
}

/**
 * Calls `action` whenever the page is seen again, or the browser has a network again.
 *
 * @param {() => void} action
 * @returns {() => void} ends that
 */
export function onReturn(action) {
    const whenSeen = () => {
        if (document.visibilityState === "visible") {
            action();
        }
    };
    document.addEventListener("visibilitychange", whenSeen);
    addEventListener("online", action);
    return () => {
        document.removeEventListener("visibilitychange", whenSeen);
        removeEventListener("online", action);
    };
}
