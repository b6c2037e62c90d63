/** Keyboard Lock (WICG), in Chromium only. */
interface Navigator {
    keyboard?: { lock(keyCodes?: string[]): Promise<void> };
}
