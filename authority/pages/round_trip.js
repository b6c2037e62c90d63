// How long a message takes to the gateway and back.

const INTERVAL_MS = 15_000;

/**
 * Measures now and then while `signal` is not aborted and the page is visible.
 *
 * @param {AbortSignal} signal
 * @param {(ms: number | null) => void} show gets each result; null: no answer
 */
export async function measureRoundTrips(signal, show) {
    while (!signal.aborted) {
        if (document.visibilityState === "visible") {
            const ms = await roundTrip();
            if (!signal.aborted) {
                show(ms);
            }
        }
        await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
    }
}

// The smallest file of the page, which the browser and the gateway know not to have changed.
async function roundTrip() {
    const start = performance.now();
    try {
        await fetch("element.js", { method: "HEAD", cache: "no-store" });
        return Math.round(performance.now() - start);
    } catch {
        return null;
    }
}
