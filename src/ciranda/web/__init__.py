"""The pages: what a person sees of the loop, and the few buttons that steer it.

Server-rendered HTML over the same functions as the REST API: a handler asks the `Reader` for values, a template draws them,
a form posts to a verb of `loop`. The browser adds what only it can (live charts, dialogs, a palette, shortcuts); without
JavaScript every page reads, every list pages and every form posts. Start at `app.create`.

    app        the Starlette application: routes, door, headers, errors
    pages/     one handler per page and per form; each names the right it needs
    views/     what a page shows, as frozen values, and how they are read from their owners' tables
    session    signing in with a key, the cookie, the form token
    stream     one live producer per process, fanned out by server-sent events
    charts     static charts as SVG text; live ones are drawn in the browser from the same numbers
    words, formats, locale/    languages: messages, numbers, dates
"""
