/** Finds out which keys are pressed, for all browsers and systems. */
export default class Keyboard {
    constructor(target: HTMLElement);
    onkeyevent: (keysym: number, code: string, down: boolean) => void;
    grab(): void;
}
